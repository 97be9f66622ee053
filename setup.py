"""The packages at the top of the checkout are installed as parts of `svfap` and nowhere else."""

from setuptools import find_packages, setup

FOLDERS = ("models", "datasets", "engine", "preprocess")
inside = [
    f"{folder}{'.' if room else ''}{room}"
    for folder in FOLDERS
    for room in ["", *find_packages(folder)]
]

setup(
    packages=["svfap", *(f"svfap.{name}" for name in inside)],
    package_dir={"svfap": "svfap", **{f"svfap.{folder}": folder for folder in FOLDERS}},
)

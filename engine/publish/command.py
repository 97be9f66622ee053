"""`python -m svfap.engine.publish RUN owner/repo`: weights and model card on the Hub.

`--dry_run` writes the folder that would be uploaded, and nothing else.
"""

import argparse
import json
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from svfap.datasets.files import write_text
from svfap.engine.publish.card import card
from svfap.engine.publish.run import Published, read_run, without_paths
from svfap.engine.runtime.log import set_up_logging
from svfap.engine.runtime.programs import tells_user
from svfap.models.weights.hub import in_words
from svfap.models.weights.weight_file import write_safetensors

logger = logging.getLogger(__name__)

FOLDER = "published"  # below the run
_REPO = re.compile(r"[\w.-]+/[\w.-]+")


def write_folder(
    run: Published, folder: Path, repo: str, licence: str | None, subgroups: Sequence[Path] = ()
) -> None:
    """Write what is published; a folder that is there is replaced when all is written."""
    identity, config = run.identity, run.identity.config
    part = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        tensors = {name: value.contiguous().clone() for name, value in identity.weights.items()}
        write_safetensors(part / "model.safetensors", tensors, run.facts)
        crops = identity.crops
        facts = {name: run.facts[name] for name in ("task", "class_names", "heads")
                 if run.facts.get(name)}  # fmt: skip
        _write(part / "config.json", {"library_name": "svfap", "model_config": config, **facts})
        _write(part / "preprocessor_config.json", {
            "size": {"height": config["img_size"], "width": config["img_size"]},
            "num_frames": config["num_frames"], "sampling_rate": identity.sampling_rate,
            "fps": identity.fps, "face_window": identity.face_window, "crops_like": crops.name,
            "image_mean": config.get("mean") or [0.485, 0.456, 0.406],
            "image_std": config.get("std") or [0.229, 0.224, 0.225],
        })  # fmt: skip
        if run.result:
            metrics = without_paths(run.result.metrics) | {"weights": run.result.weights}
            _write(part / "metrics.json", metrics)
        write_text(part / "README.md", card(run, repo, licence, subgroups))
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(path: Path, content: dict) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def upload(folder: Path, repo: str, *, private: bool) -> str:
    """Upload a folder; the address of the commit. SourceError where the Hub refuses."""
    with in_words(f"upload to {repo}", repo, "main") as library:
        api = library.HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(
            folder_path=folder, repo_id=repo, commit_message="Weights and model card"
        )
    return f"{commit.commit_url}"


@tells_user()
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    parser = argparse.ArgumentParser("python -m svfap.engine.publish", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="directory of a finished run")
    parser.add_argument("repo", metavar="owner/repo", help="repository of the Hub; made if need be")
    parser.add_argument("--dry_run", action="store_true", help="write the folder only")
    parser.add_argument("--output_dir", type=Path, help=f"where (default: RUN/{FOLDER})")
    parser.add_argument("--licence", help="as the Hub names it: mit, cc-by-nc-4.0, ...")
    parser.add_argument("--private", action="store_true", help="make a private repository")
    parser.add_argument(
        "--subgroups", type=Path, nargs="+", default=[], metavar="CSV",
        help="groups of the test part's videos, a column each: gender, age, ...",
    )  # fmt: skip
    flags = parser.parse_args(arguments)
    if not _REPO.fullmatch(flags.repo):
        parser.error(f"{flags.repo!r} is not owner/repo")
    set_up_logging(is_main=True)
    run = read_run(flags.run)
    begun = (run.origin.get("weights") or {}).get("licence")
    if begun:
        logger.warning("training began with weights of others, licence: %s", begun)
    if not flags.licence:
        logger.warning("no --licence: the card says that it is not stated")
    folder = flags.output_dir or flags.run / FOLDER
    if folder.exists() and not (folder / "README.md").is_file() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds something else; choose another --output_dir")
    write_folder(run, folder, flags.repo, flags.licence, flags.subgroups)
    print(f"written: {folder} (opens as it is: --checkpoint {folder})")
    if not flags.dry_run:
        print(f"uploaded: {upload(folder, flags.repo, private=flags.private)}")
    return 0

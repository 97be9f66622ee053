"""What a student, a researcher and an engineer do first, at its smallest: every command works."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

MADE = {
    "student": ("mine/run/report.html", "mine/doctor/contact_sheet.png", "answers/predictions.csv"),
    "researcher": ("folds/summary.md", "folds/seed1/report.html", "sweep/sweep.md"),
    "engineer": ("run/metrics.json", "model.pt2"),
}


@pytest.mark.parametrize("who", MADE)
def test_the_first_day(who, tmp_path):
    environment = {**os.environ, "SHORT": "1", "VENV": "none", "PYTHON": sys.executable,
                   "OMP_NUM_THREADS": "1"}  # fmt: skip
    done = subprocess.run(
        ["bash", str(ROOT / "scripts/first_day.sh"), who, str(tmp_path / "out")],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.match(rf"{who}: \d commands with \d+ flags, \d+ s; everything is in ", last), last
    for name in MADE[who]:
        assert (tmp_path / "out" / name).is_file(), name
    if who == "researcher":
        table = (tmp_path / "out/folds/summary.md").read_text()
        assert "| mean of seeds" in table and "over subjects" in table

"""Data doctor: what is in annotation files and the videos behind them, and what is wrong.

    python -m svfap.preprocess.doctor saved/data/mine
    python -m svfap.preprocess.doctor saved/data/dfew/org/split01/*.csv --data_set DFEW --sample 500

Counts per class and part, people in training and test, equal-looking videos across parts, lengths,
sizes, unreadable files, face size and frames without a face, class histogram against the published
one. Prints a table; writes report.json and contact_sheet.png.
Exit status: 0 no problems, 1 problems, 2 could not run.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from svfap.preprocess.doctor.checks import PROBLEM, run_checks
from svfap.preprocess.doctor.data import find_files, find_subjects, load_folds
from svfap.preprocess.doctor.pairs import find_pairs
from svfap.preprocess.doctor.report import report_text, write_json
from svfap.preprocess.doctor.scan import faces_available, scan_all
from svfap.preprocess.doctor.sheet import choose_rows, draw_sheet, pair_rows
from svfap.preprocess.shared.common import add_workers_flag
from svfap.terminal import as_program

logger = logging.getLogger(__name__)

OK, PROBLEMS, CANNOT_RUN = 0, 1, 2


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.doctor`."""
    parser = argparse.ArgumentParser("preprocess.doctor", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("csv", type=Path, nargs="+", metavar="CSV",
        help="annotation files, folders with such files in them or below, or folders of videos"
    )  # fmt: skip
    add("--data_root", type=Path, metavar="DIR", help="folder of relative paths in the CSVs")
    add("--data_set", metavar="NAME",
        help="compare with the published counts of this data set (default: what classes.json says)"
    )  # fmt: skip
    add("--subjects", type=Path, metavar="CSV",
        help="columns path and subject (default: subjects.csv beside the CSVs, or file names)"
    )  # fmt: skip
    add("--output_dir", type=Path, default=Path("saved/doctor"), metavar="DIR")
    add("--sample", type=int, metavar="N",
        help="open only N videos per CSV, evenly spread (default: all)")  # fmt: skip
    add("--num_frames", type=int, default=16, metavar="N", help="frames per clip of the model")
    add("--no_faces", action="store_true", help="do not look for faces")
    add_workers_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Examine the data, print the report, write JSON and contact sheet.

    Returns:
        Exit status: 0 no problems, 1 problems.
    """
    flags = build_parser().parse_args(argv)
    if flags.sample is not None and flags.sample < 1:
        raise ValueError(f"--sample {flags.sample}: open at least 1 video per CSV")
    files, sample = find_files(flags.csv), flags.sample
    folds = load_folds(files, data_root=flags.data_root, data_set=flags.data_set, sample=sample)
    subjects_from = find_subjects(folds, flags.subjects)
    no_faces = "switched off (--no_faces)" if flags.no_faces else faces_available()
    paths = [path for fold in folds for split in fold.splits for path in split.paths]
    scans = scan_all(paths, num_workers=flags.num_workers, with_faces=no_faces is None)
    pairs = find_pairs(list(scans.values()))
    findings = run_checks(
        folds, scans, pairs,
        clip_frames=flags.num_frames, no_faces=no_faces, subjects_from=subjects_from,
    )  # fmt: skip
    print(report_text(folds, scans, findings, subjects_from))
    flags.output_dir.mkdir(parents=True, exist_ok=True)
    report = flags.output_dir / "report.json"
    write_json(report, folds, scans, findings, subjects_from)
    written = [str(report)]
    rows = [*choose_rows(folds[0], scans), *pair_rows(pairs)]
    if rows:
        sheet = flags.output_dir / "contact_sheet.png"
        draw_sheet(sheet, f"{folds[0].folder}: {folds[0].splits[0].name}", rows, scans)
        written.append(str(sheet))
    print("written: " + ", ".join(written))
    return PROBLEMS if any(finding.level == PROBLEM for finding in findings) else OK


def run() -> int:
    """The command: `main` with errors told without a traceback, as exit status 2."""
    as_program()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        return main()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return CANNOT_RUN
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return CANNOT_RUN

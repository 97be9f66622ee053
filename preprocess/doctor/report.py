"""What preprocess.doctor says: a table, JSON, and the numbers behind both."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from svfap.datasets.files import write_text
from svfap.datasets.labels.kinds import Column
from svfap.preprocess.doctor.checks import NOTE, PROBLEM, WARNING, Finding
from svfap.preprocess.doctor.data import Fold, Split
from svfap.preprocess.doctor.scan import Scan

SHOWN_ITEMS = 5
SHOWN_SIZES = 4
SIGNS = {PROBLEM: "PROBLEM", WARNING: "warning", NOTE: "note"}


def split_rows(fold: Fold) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of a fold: videos, subjects and classes or values per part."""
    columns = list(fold.names.class_names) if fold.names else []
    header = ["", "videos", "subjects", *columns]
    rows = []
    for split in fold.splits:
        if split.annotations is None:
            rows.append([split.name, "unreadable", "", *[""] * len(columns)])
            continue
        people = "?" if split.subjects is None else f"{len(set(split.subjects)):,}"
        rows.append([split.name, f"{len(split.annotations):,}", people, *_cells(fold, split)])
    return header, rows if fold.one_class else [*rows, *_class_rows(fold)]


def _cells(fold: Fold, split: Split) -> list[str]:
    if fold.one_class:
        return [f"{count:,}" for count in _counts(split, 0, fold.columns[0])]
    cells = []
    for index, column in enumerate(fold.columns):
        values = split.labels_of(index)
        if column.classes is None:
            cells.append(f"{values.mean():.3g} +- {values.std():.2g}")
        else:
            cells.append(f"{len(np.unique(values))} classes")
    return cells


def _counts(split: Split, index: int, column: Column) -> np.ndarray:
    """Videos of each class."""
    return np.bincount(split.labels_of(index).astype(int), minlength=len(column.classes))


def _class_rows(fold: Fold) -> list[list[str]]:
    """How often each class of a head occurs."""
    rows = []
    for index, column in enumerate(fold.columns):
        for split in fold.splits:
            if column.classes is not None and split.annotations is not None:
                counts = zip(column.classes, _counts(split, index, column))
                shown = "  ".join(f"{name} {count:,}" for name, count in counts)
                rows.append([f"{split.name} {column.name}: {shown}"] + [""] * len(fold.columns))
    return rows


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns lined up, the first to the left and the others to the right."""
    body = [row for row in rows if any(row[1:])]
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]
        lines.append("  " + ("  ".join(cells).rstrip() if any(row[1:]) else row[0]))
    return "\n".join(lines)


def numbers(scans: Mapping[str, Scan]) -> dict:
    """Lengths, sizes and faces of the opened videos, for the table and JSON."""
    readable = [scan for scan in scans.values() if scan.readable]
    result = {"opened": len(scans), "unreadable": len(scans) - len(readable)}
    if not readable:
        return result
    frames = np.array([scan.num_frames for scan in readable])
    median = float(np.median(frames))
    result["frames"] = {"min": int(frames.min()), "median": median, "max": int(frames.max())}
    sizes = Counter(f"{scan.width}x{scan.height}" for scan in readable)
    result["sizes"] = dict(sizes.most_common())
    shares = np.array([s for scan in readable if scan.faces is not None for s in scan.faces])
    if shares.size:
        found = shares[shares > 0]
        result["faces"] = {
            "frames": int(shares.size),
            "share_without": round(float((shares == 0).mean()), 4),
            "median_share_of_side": round(float(np.median(found)), 4) if found.size else None,
        }
    return result


def summary_lines(summary: Mapping) -> list[str]:
    """`numbers` as lines."""
    lines = [f"videos opened: {summary['opened']:,}, unreadable: {summary['unreadable']:,}"]
    if "frames" in summary:
        frames = summary["frames"]
        lines.append(
            f"frames per video: {frames['min']} to {frames['max']}, median {frames['median']:g}"
        )
        sizes = list(summary["sizes"].items())
        shown = ", ".join(f"{size} ({count:,})" for size, count in sizes[:SHOWN_SIZES])
        more = f" and {len(sizes) - SHOWN_SIZES} other sizes" if len(sizes) > SHOWN_SIZES else ""
        lines.append(f"width x height in pixels: {shown}{more}")
    if "faces" in summary:
        faces = summary["faces"]
        side = faces["median_share_of_side"]
        lines.append(
            f"faces: none in {faces['share_without']:.1%} of {faces['frames']:,} frames"
            + (f"; side {side:.0%} of the frame's shorter side (median)" if side else "")
        )
    return lines


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """Findings as lines, the first items of each below it."""
    lines = []
    for finding in findings:
        lines.append(f"{SIGNS[finding.level]}: {finding.text}")
        lines += [f"    {item}" for item in finding.items[:SHOWN_ITEMS]]
        if len(finding.items) > SHOWN_ITEMS:
            lines.append(f"    ... and {len(finding.items) - SHOWN_ITEMS} more")
    return lines


def report_text(
    folds: Sequence[Fold],
    scans: Mapping[str, Scan],
    findings: Sequence[Finding],
    subjects_from: str,
) -> str:
    """The whole report."""
    blocks = []
    for fold in folds:
        known = f"  ({fold.spec.name})" if fold.spec else ""
        blocks.append(f"{fold.folder}{known}\n{table(*split_rows(fold))}")
    lines = summary_lines(numbers(scans))
    if subjects_from:
        lines.append(f"subjects from: {subjects_from}")
    blocks.append("\n".join(lines))
    count = Counter(finding.level for finding in findings)
    blocks.append("\n".join(finding_lines(findings)))
    problems, warnings = count[PROBLEM], count[WARNING]
    verdict = "no problems" if not problems else f"{problems} problem{'s' * (problems != 1)}"
    blocks.append(f"{verdict}, {warnings} warning{'s' * (warnings != 1)}")
    return "\n\n".join(block for block in blocks if block)


def write_json(
    path: Path,
    folds: Sequence[Fold],
    scans: Mapping[str, Scan],
    findings: Sequence[Finding],
    subjects_from: str,
) -> None:
    """Write everything, all items of all findings included."""
    content = {
        "status": "problems" if any(f.level == PROBLEM for f in findings) else "ok",
        "folds": [_fold_json(fold) for fold in folds],
        "videos": numbers(scans),
        "subjects_from": subjects_from,
        "findings": [asdict(finding) for finding in findings],
    }
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _fold_json(fold: Fold) -> dict:
    splits = []
    for split in fold.splits:
        splits.append({"name": split.name, "path": str(split.path)})
        if split.annotations is not None:
            people = None if split.subjects is None else len(set(split.subjects))
            splits[-1] |= {"videos": len(split.annotations), "subjects": people}
            if fold.one_class:
                counts = _counts(split, 0, fold.columns[0])
                splits[-1]["classes"] = dict(zip(fold.names.class_names, counts.tolist()))
    known = fold.spec.name if fold.spec else None
    return {"folder": str(fold.folder), "task": fold.task, "data_set": known, "splits": splits}

"""What stands behind the path in a line of an annotation file, task by task."""

import math
from collections.abc import Sequence

import numpy as np

# Number of columns behind the path; None: as many as the data set has dimensions or heads.
COLUMNS = {
    "pretrain": None,
    "classification": 1,
    "regression": None,
    "multihead": None,
    "regression_frames": 1,
    "class_and_values": None,
}
TASKS = tuple(COLUMNS)

Rows = Sequence[tuple[int, list[str]]]  # (line number, fields)
Problems = list[tuple[int, str]]


def malformed_lines(rows: Rows, task: str, num_labels: int | None) -> Problems:
    """Lines with the wrong number of columns; in pre-training files, with text for a label."""
    count = COLUMNS[task] or num_labels or 1
    expected = {
        "pretrain": "'path label'",
        "classification": "'path label'",
        "regression_frames": "'path labels.npz'",
    }.get(task, f"'path' and {count} label{'s' * (count > 1)}")

    def is_wrong(fields: list[str]) -> bool:
        if task == "pretrain":
            return not fields[0] or not all(map(is_number, fields[1:]))
        return not fields[0] or len(fields) != 1 + count

    return [
        (
            number,
            f"expected {expected}, found {len(fields)} column{'s' * (len(fields) != 1)} in "
            f"{' '.join(fields)!r}; columns are separated by one space, and paths may contain "
            "none (rename the file)",
        )
        for number, fields in rows
        if is_wrong(fields)
    ]


def parse_labels(
    rows: Rows,
    task: str,
    num_classes: int | Sequence[int] | None,
    num_labels: int | None,
) -> tuple[np.ndarray, Problems]:
    """Labels of well-formed rows (0 where wrong) and the problems found.

    Args:
        rows: line numbers and fields.
        task: one of `TASKS`; zeros stand for the labels of "pretrain" and "regression_frames".
        num_classes: of classification; of each head in multihead and class_and_values.
        num_labels: numbers per line in regression.

    Returns:
        (n,) int64, (n, H) int64, or float32 (n, L) in regression and (n, 1 + L) in
        class_and_values, with the class in front.
    """
    if task in ("pretrain", "regression_frames"):
        return np.zeros(len(rows), np.int64), []
    if task == "regression":
        return _numbers(rows, num_labels or 1)
    if task == "class_and_values":
        classes, wrong = parse_labels(rows, "multihead", num_classes, None)
        values, not_numbers = _numbers([(n, f[1:]) for n, f in rows], (num_labels or 2) - 1)
        return np.concatenate([classes.astype(np.float32), values], axis=1), wrong + not_numbers
    heads = [num_classes] if task == "classification" else list(num_classes)
    labels, problems = np.zeros((len(rows), len(heads)), np.int64), []
    for place, (number, fields) in enumerate(rows):
        for head, (text, count) in enumerate(zip(fields[1:], heads)):
            problem = _class_problem(text, count)
            if problem:
                problems.append((number, problem))
            else:
                labels[place, head] = int(text)
    return (labels[:, 0] if task == "classification" else labels), problems


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(rows: Rows, num_labels: int) -> tuple[np.ndarray, Problems]:
    problems = []
    labels = np.zeros((len(rows), num_labels), np.float32)
    for place, (number, fields) in enumerate(rows):
        wrong = [v for v in fields[1:] if not is_number(v) or not math.isfinite(float(v))]
        if wrong:
            problems.append((number, f"label {wrong[0]!r} is not a finite number"))
        else:
            labels[place] = [float(value) for value in fields[1:]]
    return labels, problems


def _class_problem(text: str, num_classes: int | None) -> str | None:
    if not (text.isascii() and text.removeprefix("-").isdigit()):
        return f"label {text!r} is not a whole number; classes are numbered from 0"
    if int(text) < 0 or (num_classes is not None and int(text) >= num_classes):
        allowed = "0 or more" if num_classes is None else f"0 to {num_classes - 1}"
        return f"label {text} is out of range; allowed are {allowed}"
    return None

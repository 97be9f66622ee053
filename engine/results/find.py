"""Finding the results of evaluations: run directories, `pred.csv` and `metrics.json` files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from svfap.datasets import tables
from svfap.datasets.files import read_journal
from svfap.datasets.video.open_video import natural_key
from svfap.engine.results.predictions import Predictions, read_metrics, read_predictions

UNKNOWN = "not stated"
FINISHED = "finished.json"  # the last file of a run
SUBJECTS_FILE = "subjects.csv"  # beside annotation files
# What a run keeps of its training part: rows carved for validation, rows it trained on.
CARVED_FILE = "validation.csv"
LABELLED_FILE = "training.csv"
ERRORS_FILE = "errors.json"  # of reconstructions, beside them
MAX_LISTED = 5
# Columns of a subjects file that may name the video, in the order in which they are looked for.
SUBJECT_KEYS = ("video_name", "clip", "id", "path")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One evaluation: usually one fold."""

    name: str
    path: Path
    metrics: dict  # as in metrics.json
    predictions: Predictions | None  # per video, or None where only the metrics are known
    weights: str = UNKNOWN  # which weights gave it, or "not stated"
    split: str = UNKNOWN  # which annotation file it was computed on, or "not stated"
    notes: tuple[str, ...] = ()  # cautions that metrics.json carries


def find_results(sources: Sequence[str | Path]) -> list[Result]:
    """Read results, one per evaluation, with names that differ.

    Args:
        sources: each a `pred.csv`, a `metrics.json`, a run directory with one of them, or a
            directory of run directories (one per fold), taken in natural order.

    Raises:
        ValueError: a broken file, the same file twice, or a metrics.json that does not belong to
            the pred.csv beside it.
    """
    files = [file for source in sources for file in _files(Path(source))]
    twice = {str(file) for file in files if files.count(file) > 1}
    if twice:
        raise ValueError(f"given more than once: {', '.join(sorted(twice))}; give each fold once.")
    return [_read(file, name) for file, name in zip(files, _names(files))]


def read_log(path: str | Path) -> list[dict]:
    """Lines of a `log.jsonl`, one per epoch and in their order; none where there is no file.

    A run that was killed and resumed may have written an epoch twice, or half of a last line: the
    later line of an epoch counts, and damaged lines are left out with a warning.
    """
    records = {record["epoch"]: record for record in read_journal(path, {"epoch": int})}
    return [records[epoch] for epoch in sorted(records)]


def pool(results: Sequence[Result]) -> Predictions:
    """All predictions together, as if one system had predicted every video.

    ValueError: a result without predictions, other classes, or a video in two folds.
    """
    missing = [str(result.path) for result in results if result.predictions is None]
    if missing:
        raise ValueError(f"pooling needs pred.csv files, these have none: {', '.join(missing)}.")
    parts = [result.predictions for result in results]
    if len({(type(part), part.frames is None) for part in parts}) > 1:
        kinds = " and ".join(dict.fromkeys(part.header for part in parts))
        raise ValueError(
            f"predictions of different kinds ({kinds}; of videos or of frames): pool one kind."
        )
    named = next((part for part in parts if part.names is not None), parts[0])
    for result in results:
        try:
            named.require_alike(result.predictions)
        except ValueError as error:
            raise ValueError(f"{result.path}: {error} Pool one kind.") from error
    _require_disjoint(results)
    return type(parts[0]).joined(parts)


def subjects_of(csv_path: str | Path, ids: Sequence[str]) -> list[str]:
    """The person in each video.

    Args:
        csv_path: file with a header and columns `subject` and one of `SUBJECT_KEYS`. A name
            stands for a video if it is the id in pred.csv, its last path component with or
            without suffix, or the same with other leading zeros.

    Raises:
        ValueError: missing columns, a name with two subjects, or videos that are not listed.
    """
    path = Path(csv_path)
    if not path.is_file():
        raise FileNotFoundError(f"no subjects file {path}")
    table = read_table(path, SUBJECT_KEYS, "subject")
    table |= {tables.same_name(name): subject for name, subject in table.items()}
    plain = {name.lstrip("0"): subject for name, subject in table.items()}
    found = [_subject(video, table, plain) for video in ids]
    unknown = [video for video, subject in zip(ids, found) if subject is None]
    if unknown:
        raise ValueError(
            f"{path} names no subject for {len(unknown)} of {len(ids)} videos: "
            f"{_some(unknown)}. Its names look like {_some(list(table))}."
        )
    return found


def read_table(path: Path, keys: Sequence[str], value: str) -> dict[str, str]:
    """Two columns of a CSV with a header: `value` by the first of the `keys` that is there.

    ValueError: missing columns, or a key without a value or with two.
    """
    columns = tables.read_header(path)
    key = next((name for name in keys if name in columns), None)
    if key is None or value not in columns:
        raise ValueError(f"{path} has columns {columns}; needed: {' or '.join(keys)} and {value}")
    table: dict[str, str] = {}
    for line, row in tables.read_table(path):
        name, own = row[key], row[value]
        if not own or table.setdefault(name, own) != own:
            given = dict.fromkeys([table.get(name, ""), own])
            raise ValueError(
                f"{path} line {line}: {name!r} needs one {value}, not "
                f"{' and '.join(map(repr, given))}"
            )
    return table


def align(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions]:
    """Bring the second system's predictions of the same videos into the order of the first's.

    ValueError: other videos, labels or classes; the message lists some.
    """
    row_of = {key: row for row, key in enumerate(second.keys)}
    known = set(first.keys)
    only_first = [key for key in first.keys if key not in row_of]
    only_second = [key for key in second.keys if key not in known]
    if only_first or only_second:
        raise ValueError(
            "a paired comparison needs the same videos in both: "
            f"{len(only_first)} only in the first ({_some(only_first)}), "
            f"{len(only_second)} only in the second ({_some(only_second)}). engine.compare "
            "--common takes those that both have."
        )
    aligned = second.taken(np.array([row_of[key] for key in first.keys]))
    first.require_same(aligned)
    return first, aligned


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileNotFoundError(f"{source} does not exist; give run directories or pred.csv files.")
    own = _result_file(source)
    if own:
        return [own]
    folders = [path for path in source.iterdir() if path.is_dir()]
    folders.sort(key=lambda path: natural_key(path.name))
    found = [file for file in map(_result_file, folders) if file]
    if not found:
        raise FileNotFoundError(
            f"{source} holds no pred.csv or metrics.json, nor do the folders in it: "
            "was the run evaluated?"
        )
    return found


def _result_file(folder: Path) -> Path | None:
    files = (folder / "pred.csv", folder / "metrics.json")
    return next((file for file in files if file.is_file()), None)


def _read(file: Path, name: str) -> Result:
    beside = file if file.suffix == ".json" else file.with_name("metrics.json")
    # A CSV under another name has nothing to do with the metrics.json of its folder.
    ours = file.suffix == ".json" or file.name == "pred.csv"
    stated = read_metrics(beside) if ours and beside.is_file() else {}
    predictions, metrics = None, stated
    if file.suffix != ".json":
        predictions = read_predictions(file, stated.get("class_names"))
        metrics = predictions.metrics()
        _require_agreement(file, metrics, stated)
    return Result(
        name=name,
        path=file,
        metrics=metrics,
        predictions=predictions,
        weights=_weights(stated),
        split=str(stated.get("split", UNKNOWN)),
        notes=tuple(stated.get("notes", ())),
    )


def _weights(stated: dict) -> str:
    """Which weights, and on which videos they were chosen."""
    weights = str(stated.get("weights", UNKNOWN))
    return f"{weights}, chosen on {stated['chosen_on']}" if "chosen_on" in stated else weights


def _require_agreement(file: Path, computed: dict, stated: dict) -> None:
    """The weights that metrics.json names are those of pred.csv only if the numbers agree."""
    for name, value in computed.items():
        given = stated.get(name)
        if not (isinstance(value, (int, float)) and isinstance(given, (int, float))):
            continue
        if abs(value - given) > 1e-4:
            raise ValueError(
                f"{file} gives {name} {value:.6g}, metrics.json beside it says {given:.6g}: "
                "they are not of the same evaluation; evaluate again."
            )


def _names(files: Sequence[Path]) -> list[str]:
    """Short names: of the folder for standard files, else of the file; full paths if they clash."""
    standard = ("pred.csv", "metrics.json")
    short = [f.resolve().parent.name if f.name in standard else f.stem for f in files]
    return short if len(set(short)) == len(short) else [str(file) for file in files]


def _require_disjoint(results: Sequence[Result]) -> None:
    fold_of: dict[str, str] = {}
    twice = []
    for result in results:
        for video in result.predictions.ids:
            if fold_of.setdefault(video, result.name) != result.name:
                twice.append(f"{video} (in {fold_of[video]} and {result.name})")
    if twice:
        raise ValueError(
            f"{len(twice)} videos occur in more than one fold: {_some(twice)}. Pooling counts "
            "every video once: give test folds that do not overlap, of one system."
        )


def _subject(video: str, table: dict[str, str], plain: dict[str, str]) -> str | None:
    last = PurePosixPath(video.replace("\\", "/"))
    for name in (video, last.name, last.stem):
        for spelling in (name, tables.same_name(name)):
            if spelling in table:
                return table[spelling]
    return plain.get(last.stem.lstrip("0"))


def _some(items: Sequence[str]) -> str:
    shown = ", ".join(map(str, items[:MAX_LISTED])) or "none"
    return shown + (", ..." if len(items) > MAX_LISTED else "")

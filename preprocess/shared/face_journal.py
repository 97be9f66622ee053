"""The journal by which an interrupted run of preprocess.faces goes on, and its table."""

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from svfap.datasets import files
from svfap.datasets.labels.listing import stamp_of
from svfap.datasets.tables import write_table as write_csv
from svfap.preprocess.shared.common import PreparationError
from svfap.preprocess.shared.face_jobs import FaceSettings, Outcome

logger = logging.getLogger(__name__)

JOURNAL = "faces.jsonl"
TABLE = "faces.csv"
TRACK_COLUMNS = ("output", "first_frame", "last_frame", "num_frames", "detected", "followed")
TRACK_COLUMNS += ("interpolated", "score", "eye_distance_px", "outside")


def read_journal(output_dir: Path, settings: FaceSettings) -> dict[str, Outcome]:
    """Outcomes of an earlier run in this folder, by source."""
    path = output_dir / JOURNAL
    if not path.is_file():
        if output_dir.is_dir() and any(output_dir.iterdir()):
            raise PreparationError(
                f"{output_dir} is not empty and holds no {JOURNAL} of an earlier run; choose a new "
                "folder, nothing of yours is overwritten"
            )
        return {}
    entries = files.read_journal(path)
    made_with = entries[0].get("settings") if entries else {}
    if not isinstance(made_with, dict):
        raise PreparationError(
            f"{path}: its first line, which says how the crops were made, is damaged; choose a new "
            "--output_dir"
        )
    wanted = asdict(settings)
    other = [f"{k} was {v}, is {wanted.get(k)}" for k, v in made_with.items() if v != wanted.get(k)]
    if other:
        raise PreparationError(
            f"the crops in {output_dir} were made with other settings ({'; '.join(other)}); use "
            "the same, or another --output_dir"
        )
    outcomes = {}
    for entry in entries[1:]:
        if _is_outcome(entry):
            outcomes[entry["source"]] = Outcome(**entry)
        else:
            logger.warning("%s: a line about %s is damaged", path, entry.get("source"))
    return outcomes


def _is_outcome(entry: dict) -> bool:
    """Whether a line has what an `Outcome` has, of the same types; other versions have less."""
    example = vars(Outcome("", "", fps=1.0))
    return (
        {"source", "status", "tracks"} <= entry.keys() <= example.keys()
        and all(
            _is_like(value, example[name]) or (name == "fps" and value is None)
            for name, value in entry.items()
        )
        and all(
            isinstance(track, dict)
            and isinstance(track.get("output"), str)
            and all(_is_like(track.get(name), 0.0) for name in TRACK_COLUMNS[1:])
            for track in entry["tracks"]
        )
    )


def _is_like(value: object, example: object) -> bool:
    numbers = (int, float)
    return isinstance(value, numbers if isinstance(example, numbers) else type(example))


def is_done(outcome: Outcome | None, output_dir: Path) -> bool:
    """Whether a video need not be done again: settled, unchanged, its crops still there."""
    if outcome is None or outcome.status not in ("ok", "no_face", "not_followed"):
        return False
    if outcome.stamp != stamp_of(outcome.source):
        return False
    return all((output_dir / track["output"]).exists() for track in outcome.tracks)


class Journal:
    """Appends outcomes to the journal, the settings first."""

    def __init__(self, output_dir: Path, settings: FaceSettings):
        path = output_dir / JOURNAL
        fresh = not files.read_journal(path)
        self._file = files.GrowingFile(path)
        if fresh:
            self._line({"settings": asdict(settings)})

    def add(self, outcome: Outcome) -> None:
        """Note one video."""
        self._line(asdict(outcome))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def _line(self, entry: dict) -> None:
        self._file.write(json.dumps(entry) + "\n")


def write_table(output_dir: Path, outcomes: Iterable[Outcome]) -> None:
    """Write `faces.csv`: a line per track, and one per video without any."""
    video_columns = ("source", "status", "height", "width", "fps", "video_frames")
    rows = []
    for outcome in outcomes:
        start = (outcome.source, outcome.status, outcome.height, outcome.width)
        start += (outcome.fps, outcome.num_frames, outcome.frames_without_face)
        for track in outcome.tracks or [{}]:
            row = [track.get(column, "") for column in TRACK_COLUMNS]
            rows.append((*start, *row, outcome.note))
    header = (*video_columns, "frames_without_face", *TRACK_COLUMNS, "note")
    write_csv(output_dir / TABLE, header, rows)

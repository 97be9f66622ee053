"""Predictions as files: JSON and CSV per video, one table for all, a journal to go on from."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from svfap.datasets import tables
from svfap.datasets.files import GrowingFile, read_journal, write_text
from svfap.datasets.labels.listing import NamedVideo, stamp_of
from svfap.engine.predict.answers import TrackPrediction, VideoPrediction

logger = logging.getLogger(__name__)

JOURNAL = "predictions.jsonl"
TABLE = "predictions.csv"
SETTLED = ("ok", "no_face")
DIGITS = 6


def as_dict(prediction: VideoPrediction) -> dict:
    """Everything about a video as plain values, as `prediction.json` holds it."""
    facts = prediction.facts
    return {
        "video": facts.path,
        "status": facts.status,
        "note": facts.note,
        "num_frames": facts.num_frames,
        "fps": facts.fps,
        "height": facts.height,
        "width": facts.width,
        "frames_without_face": facts.frames_without_face,
        "tracks": [
            _track(number, track, facts.times)
            for number, track in enumerate(prediction.tracks, start=1)
        ],
    }


def _track(number: int, track: TrackPrediction, times) -> dict:
    span = track.span
    last = span.first_frame + span.num_frames - 1
    return {
        "track": number,
        "what": "whole picture" if span.corners is None else f"face {number}",
        "first_frame": span.first_frame,
        "last_frame": last,
        "begin_seconds": round(float(times[span.first_frame]), 3),
        "end_seconds": round(float(times[last]), 3),
        "interpolated_frames": span.interpolated,
        "num_windows": len(span.windows),
        **({"label": track.label} if track.label else {}),
        "scores": {name: round(value, DIGITS) for name, value in track.answers().items()},
        **_frames(track, times),
        "windows": [
            {
                "first_frame": int(first),
                "last_frame": int(final),
                "begin_seconds": round(float(begin), 3),
                "end_seconds": round(float(end), 3),
                "scores": [round(float(score), DIGITS) for score in scores],
            }
            for (first, final), (begin, end), scores in zip(
                span.windows, track.seconds, track.window_scores, strict=True
            )
        ],
    }


def _frames(track: TrackPrediction, times) -> dict:
    """Answers of single frames, if the model gives them."""
    if track.frame_scores is None:
        return {}
    return {
        "frames": [
            {
                "frame": int(frame),
                "seconds": round(float(times[frame]), 3),
                "scores": [round(float(score), DIGITS) for score in scores],
            }
            for frame, scores in zip(track.frames, track.frame_scores, strict=True)
        ]
    }


def write_video(folder: Path, content: dict, names: Iterable[str]) -> None:
    """Write `prediction.json`; for videos with tracks `timeline.csv`, and `frames.csv` if the model
    answers per time step. The folder of the video is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = list(names)
    places = ("first_frame", "last_frame", "begin_seconds", "end_seconds")
    for file, key, columns in (
        ("timeline.csv", "windows", places),
        ("frames.csv", "frames", ("frame", "seconds")),
    ):
        rows = [
            (track["track"], *(part[column] for column in columns), *part["scores"])
            for track in content["tracks"]
            for part in track.get(key, ())
        ]
        if rows:
            tables.write_table(folder / file, ("track", *columns, *names), rows)
    write_text(folder / "prediction.json", json.dumps(content, indent=1) + "\n")


def write_table(path: Path, contents: Iterable[dict], names: Iterable[str]) -> None:
    """Write one line per track, and one per video without any, from what `as_dict` makes."""
    names = list(names)
    about_track = ("track", "first_frame", "last_frame", "begin_seconds", "end_seconds")
    about_video = ("num_frames", "frames_without_face", "note")
    header = ("video", "status", *about_track, "num_windows", "label", *names, *about_video)
    rows = []
    for content in contents:
        for track in content["tracks"] or [{}]:
            about = [track.get(column, "") for column in (*about_track, "num_windows", "label")]
            scores = [track.get("scores", {}).get(name, "") for name in names]
            video = [content[column] for column in about_video]
            rows.append((content["video"], content["status"], *about, *scores, *video))
    tables.write_table(path, header, rows)


class Journal:
    """What an earlier command in a folder has done, and what this one does.

    `settings` decide the answers; ValueError where the earlier command had others.
    """

    def __init__(self, folder: Path, settings: dict):
        self.folder, self.done = folder, {}
        path = folder / JOURNAL
        settings = json.loads(json.dumps(settings))
        entries = read_journal(path)
        if entries:
            before = entries[0].get("settings")
            _same_settings(before if isinstance(before, dict) else {}, settings, folder)
        for entry in entries[1:]:
            if _is_answer(entry):
                self.done[entry["content"]["video"]] = entry
            else:
                logger.warning("%s: a line is damaged, its video is answered again", path)
        self._file = GrowingFile(path)
        if not entries:
            self._line({"settings": settings})

    def has(self, video: NamedVideo) -> bool:
        """Whether a video is answered and unchanged since."""
        entry = self.done.get(video.source)
        return bool(
            entry
            and entry["content"]["status"] in SETTLED
            and entry["stamp"] == stamp_of(video.source)
            and (self.folder / video.name / "prediction.json").is_file()
        )

    def add(self, content: dict) -> None:
        """Note a video; windows are left to its own file."""
        tracks = [
            {k: v for k, v in track.items() if k not in ("windows", "frames")}
            for track in content["tracks"]
        ]
        entry = {"stamp": stamp_of(content["video"]), "content": {**content, "tracks": tracks}}
        self.done[content["video"]] = entry
        self._line(entry)

    def contents(self, videos: Iterable[NamedVideo]) -> list[dict]:
        """Answers of the videos that have one, in their order."""
        known = (self.done.get(video.source) for video in videos)
        return [entry["content"] for entry in known if entry]

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def _line(self, entry: dict) -> None:
        self._file.write(json.dumps(entry) + "\n")


def _is_answer(entry: dict) -> bool:
    """Whether a line of the journal has what the table needs."""
    content = entry.get("content")
    needs = {"video": str, "status": str, "note": str, "num_frames": int, "tracks": list}
    return (
        isinstance(entry.get("stamp"), list)
        and isinstance(content, dict)
        and all(isinstance(content.get(name), kind) for name, kind in needs.items())
        and "frames_without_face" in content
        and all(isinstance(track, dict) for track in content["tracks"])
        and all(isinstance(track.get("scores", {}), dict) for track in content["tracks"])
    )


def _same_settings(before: dict, now: dict, folder: Path) -> None:
    other = [
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if other:
        raise ValueError(
            f"the answers in {folder} were made with other settings ({'; '.join(other)}); use the "
            "same, or another --output_dir"
        )

"""Faces of one video, from reading it to its crops on disk."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import cv2
import numpy as np
import simplejpeg

from svfap.datasets.faces import (
    DETECTED,
    FOLLOWED,
    INTERPOLATED,
    CropPlan,
    FaceDetector,
    FaceVideo,
    Track,
    TrackingOptions,
    create_detector,
    crop_blocks,
    find_faces,
    parse_style,
    plan_crops,
)
from svfap.datasets.files import FULL, CannotWriteError, utf8_path
from svfap.datasets.labels.listing import NamedVideo, stamp_of
from svfap.datasets.video.frame_rate import write_frame_rate
from svfap.datasets.video.open_video import (
    IMAGE_SUFFIXES,
    FrameReader,
    UnreadableVideoError,
    open_video,
)
from svfap.preprocess.shared.common import REPEATABLE_H264

FORMATS = ("jpg", "png", "mp4")
DEFAULT_FPS = 25.0  # of videos written from frames that have no time
UNEVEN = 0.5  # frames by which times may differ from even ones
CLOCK = 90_000  # ticks per second of videos that are not even
MP4_OPTIONS = {"crf": "18", "threads": "1", **REPEATABLE_H264}


@dataclass(frozen=True)
class FaceSettings:
    """What decides how crops look; a folder of crops is made with one of these."""

    size: int = 224  # side of the crops in pixels
    margin: str = "voxceleb"  # name of a style, or a number (see `datasets.faces.parse_style`)
    align: str = "none"  # "none" or "similarity"
    box: str = "smooth"  # "smooth" or "constant"
    border: str = "inside"  # "inside", "black" or "repeat"
    smooth_seconds: float = 0.2  # standard deviation of the smoothing in time
    faces: str = "largest"  # "largest" or "all"
    landmarks: bool = False  # store landmarks and crop geometry beside the crops
    format: str = "jpg"  # "jpg", "png" or "mp4"
    quality: int = 95  # of jpg, 1 to 100
    every: int = 1  # take every n-th frame
    max_gap_seconds: float = 1.0  # time for which a face may be out of sight within a track
    min_face: float = 1 / 6  # smallest face, as a share of the frame's shorter side


@dataclass
class Outcome:
    """What became of a video."""

    source: str  # the file or frame folder
    # "ok", "no_face", "not_followed" (faces were seen, but not over time), "unreadable" or "failed"
    # (an error of the program)
    status: str
    note: str = ""  # why, or what is wrong with a usable video (truncated)
    # size and time of change of the source, so that a replaced file is done again
    stamp: list = field(default_factory=list)
    num_frames: int = 0  # frames looked at
    height: int = 0  # of the frames, pixels
    width: int = 0  # of the frames, pixels
    fps: float | None = None  # frames looked at per second, None if unknown
    frames_without_face: int = 0  # frames that belong to no track that was found
    seconds: float = 0.0
    tracks: list[dict] = field(default_factory=list)  # one dict per track written, see `_describe`


def process(
    job: NamedVideo, settings: FaceSettings, output_dir: Path, detector: FaceDetector
) -> Outcome:
    """Find, crop and write the faces of one video; bad videos are an outcome, not an error."""
    begun = time.monotonic()
    outcome = Outcome(job.source, "ok", stamp=stamp_of(job.source))
    try:
        with open_video(job.source) as video:
            found = find_faces(video, detector, _tracking(settings, video), every=settings.every)
            outcome.num_frames, outcome.fps = found.num_frames, found.fps
            outcome.height, outcome.width = found.height, found.width
            outcome.note = found.problem or ""
            outcome.frames_without_face = found.frames_without_face()
            chosen = found.by_size()[: 1 if settings.faces == "largest" else None]
            if chosen:
                outcome.tracks = _write_all(job, video, found, chosen, settings, output_dir)
            else:
                outcome.status = "not_followed" if found.unfollowed else "no_face"
                outcome.note = "; ".join(filter(None, (found.unfollowed, outcome.note)))
    except UnreadableVideoError as error:
        outcome.status, outcome.note = "unreadable", " ".join(error.reason.split())
    outcome.seconds = time.monotonic() - begun
    return outcome


def _tracking(settings: FaceSettings, video: FrameReader) -> TrackingOptions:
    fps = (video.fps or DEFAULT_FPS) / settings.every
    shares = (max(0.25, settings.min_face), settings.min_face)
    return TrackingOptions(
        max_gap=round(settings.max_gap_seconds * fps),
        min_face=tuple(dict.fromkeys(shares)),
        all_faces=settings.faces == "all",
    )


def plan_track(track: Track, found: FaceVideo, settings: FaceSettings) -> CropPlan:
    """Lay out the crops of a track by the settings."""
    return plan_crops(
        track,
        style=parse_style(settings.margin),
        size=settings.size,
        align=settings.align,
        box=settings.box,
        border=settings.border,
        smooth_frames=settings.smooth_seconds * (found.fps or DEFAULT_FPS),
        ticks=found.ticks(track),
        frame_size=(found.height, found.width),
    )


def _write_all(
    job: NamedVideo,
    video: FrameReader,
    found: FaceVideo,
    chosen: list[Track],
    settings: FaceSettings,
    output_dir: Path,
) -> list[dict]:
    """Write all tracks of a video to a temporary place, then move them to their own at once."""
    temporary = output_dir / ".partial" / job.name
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    rows = []
    for number, track in enumerate(chosen, start=1):
        part = "" if settings.faces == "largest" else f"face_{number}"
        plan = plan_track(track, found, settings)
        output = _write_track(temporary / part, video, track, plan, found, settings)
        rows.append(
            {"output": str(Path(job.name, output.relative_to(temporary)))}
            | _describe(track, plan, found)
        )
    final = output_dir / job.name
    if _is_picture(job, settings):  # one crop, which is a picture again
        (picture,) = temporary.iterdir()
        final = final.with_name(final.name + picture.suffix)
        rows[0]["output"] = str(final.relative_to(output_dir))
        final.parent.mkdir(parents=True, exist_ok=True)
        picture.replace(final)
        temporary.rmdir()
        return rows
    shutil.rmtree(final, ignore_errors=True)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary.rename(final)
    return rows


def _is_picture(job: NamedVideo, settings: FaceSettings) -> bool:
    """Whether a single picture becomes a single picture, beside those of its folder."""
    single = settings.faces == "largest" and settings.format != "mp4" and not settings.landmarks
    return single and job.source.lower().endswith(IMAGE_SUFFIXES) and Path(job.source).is_file()


def _write_track(
    folder: Path,
    video: FrameReader,
    track: Track,
    plan: CropPlan,
    found: FaceVideo,
    settings: FaceSettings,
) -> Path:
    """Write one track into `folder`; returns what to read it from."""
    folder.mkdir(parents=True, exist_ok=True)
    crops = crop_blocks(video, track, plan, every=settings.every)
    output = folder
    if settings.format == "mp4":
        output = folder / "face.mp4"
        _write_mp4(output, crops, plan.size, _seconds(track, found))
    else:
        _write_pictures(folder, crops, settings)
        if found.fps:
            seconds = _seconds(track, found)
            uneven = np.abs(seconds * found.fps - np.arange(len(track))).max() > UNEVEN
            write_frame_rate(folder, found.fps, seconds if uneven else None)
    if settings.landmarks:
        _write_landmarks(folder / "landmarks.npz", track, plan, found)
    return output


def _write_pictures(folder: Path, crops: Iterator[np.ndarray], settings: FaceSettings) -> None:
    number = 0
    for block in crops:
        for crop in block:
            number += 1
            path = folder / f"{number:05d}.{settings.format}"
            if settings.format == "jpg":
                path.write_bytes(
                    simplejpeg.encode_jpeg(
                        np.ascontiguousarray(crop),
                        quality=settings.quality,
                        colorspace="RGB",
                        colorsubsampling="444",
                    )
                )
            else:
                path.write_bytes(cv2.imencode(".png", crop[:, :, ::-1])[1].tobytes())


def _seconds(track: Track, found: FaceVideo) -> np.ndarray:
    """(T,) when the frames of a track were taken, from its first one."""
    if found.times is None:
        return np.arange(len(track)) / DEFAULT_FPS
    return found.times[track.first : track.last + 1] - found.times[track.first]


def _write_mp4(path: Path, crops: Iterator[np.ndarray], size: int, seconds: np.ndarray) -> None:
    """A video whose frames are shown when those of the source were."""
    rate = (len(seconds) - 1) / seconds[-1] if len(seconds) > 1 else DEFAULT_FPS
    rate = Fraction(rate).limit_denominator(1001)
    even = np.abs(seconds * float(rate) - np.arange(len(seconds))).max() <= UNEVEN
    with utf8_path(path) as name, av.open(name, "w") as container:
        stream = container.add_stream("libx264", rate=rate, options=MP4_OPTIONS)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        clock = 1 / rate if even else Fraction(1, CLOCK)
        stream.codec_context.time_base = clock
        number = 0
        for block in crops:
            for crop in block:
                frame = av.VideoFrame.from_ndarray(crop, format="rgb24")
                frame.pts = number if even else round(seconds[number] * CLOCK)
                frame.time_base = clock
                container.mux(stream.encode(frame))
                number += 1
        container.mux(stream.encode())


def _write_landmarks(path: Path, track: Track, plan: CropPlan, found: FaceVideo) -> None:
    np.savez_compressed(
        path,
        landmarks=plan.landmarks(track).astype(np.float32),
        frame=(track.first + np.arange(len(track))) * found.every,
        how=track.how,
        matrix=plan.matrices,
        frame_size=np.array([found.height, found.width]),
        fps=np.array(found.fps or np.nan),
    )


def _describe(track: Track, plan: CropPlan, found: FaceVideo) -> dict:
    """A track's line in the list: frames of the source, and how they were found."""
    counts = np.bincount(track.how, minlength=3)
    return {
        "first_frame": track.first * found.every,
        "last_frame": track.last * found.every,
        "num_frames": len(track),
        "detected": int(counts[DETECTED]),
        "followed": int(counts[FOLLOWED]),
        "interpolated": int(counts[INTERPOLATED]),
        "score": round(track.score, 3),
        "eye_distance_px": round(float(np.nanmedian(track.places()[:, 2])), 1),
        "outside": round(plan.outside(found.height, found.width), 4),
    }


def do_video(job: NamedVideo, settings: FaceSettings, output_dir: Path) -> Outcome:
    """`process` in any process; an unforeseen error ends this video, a full disk the run."""
    try:
        return process(job, settings, output_dir, _detector(create_detector))
    except Exception as error:  # thousands of other videos wait
        if isinstance(error, OSError) and error.errno in FULL:  # none of them can be done
            raise CannotWriteError(output_dir / job.name, error) from error
        note = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Outcome(job.source, "failed", note, stamp_of(job.source))


@lru_cache(maxsize=1)
def _detector(create: Callable[[], FaceDetector]) -> FaceDetector:
    """One for all videos of a process."""
    cv2.setNumThreads(1)
    return create()

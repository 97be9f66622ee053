"""`run_predict.py`: from its flags to answers on the screen and in files."""

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.faces import STYLES, CropStyle, parse_style
from svfap.datasets.faces.crops import ALIGNMENTS
from svfap.datasets.labels.listing import (
    PICTURES,
    NamedVideo,
    apart_from,
    list_videos,
    stamp_of,
)
from svfap.datasets.video.open_video import BACKENDS
from svfap.engine.flags.inputs import check_weights
from svfap.engine.runtime.log import set_up_logging
from svfap.engine.runtime.programs import tells_user

logger = logging.getLogger(__name__)

SHOWN_PROBLEMS = 20


def build_parser() -> argparse.ArgumentParser:
    """Parser of `run_predict.py`."""
    parser = argparse.ArgumentParser(
        description="Answers of a fine-tuned model for videos, frame folders and pictures: per "
        "face and over time.",
    )
    add = parser.add_argument
    # fmt: off
    add("inputs", type=Path, nargs="*", metavar="INPUT", help="videos, frame folders, or folders")
    add("--webcam", nargs="?", const="0", metavar="SOURCE",
        help="answer for a camera instead, while it runs: number of a device (default 0), or a "
        "stream's URL, or a file")
    add("--checkpoint", required=True, metavar="FILE",
        help="fine-tuned weights, or hf://owner/repo")
    add("--output_dir", type=Path, metavar="DIR", help="JSON and CSV; needed for the next two")
    add("--annotate", action="store_true", help="also write the videos with boxes and answers")
    add("--timeline", action="store_true", help="also draw the answers over time")
    add("--window_stride", type=int, metavar="FRAMES",
        help="between windows (default: the frames of a clip); 0: only the two windows of the "
        "test protocol")
    add("--sampling_rate", type=int, help="every n-th frame (default: as trained)")
    add("--fps", type=float, help="frame rate to which videos are brought (default: as trained, "
        "else 25); 0: frames as they come")
    add("--batch_size", type=int, default=16, help="clips per forward pass")
    add("--num_workers", type=int, help="processes that read videos and find faces")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--amp", choices=("auto", "bf16", "fp16", "off"), default="auto", help="number format")
    add("--reader", choices=("auto", *BACKENDS), default="auto", help="video decoder")
    add("--pictures", choices=PICTURES, default="auto",
        help="a folder of pictures is one video (frames), or each gets an answer (single); auto: "
        "what they look like")
    add = parser.add_argument_group("faces").add_argument
    add("--no_crop", action="store_true", help="the videos are face crops already")
    add("--faces", choices=("all", "largest"), default="all", help="which to answer")
    add("--margin", metavar="STYLE|NUMBER",
        help=f"{', '.join(STYLES)} or a number (default: the data set's)")
    add("--align", choices=ALIGNMENTS, help="(default: the data set's)")
    add("--min_face", type=float, default=1 / 6, metavar="SHARE",
        help="smallest face, as a share of the frame's shorter side")
    add("--face_window", type=int, nargs=4, metavar="PX",
        help="top left height width of the part of a crop to use")
    add = parser.add_argument_group("weights that do not say what they are").add_argument
    add("--model", metavar="NAME", help="registered model")
    add("--data_set", help="of the catalogue: label names, crops, frame rate")
    add("--class_names", nargs="+", metavar="NAME", help="in label order")
    add("--averaged", action="store_true", help="use the averaged weights")
    return parser
    # fmt: on


@tells_user(ImportError)
def main(argv: Sequence[str] | None = None) -> int:
    """Run `run_predict.py`.

    Returns:
        Exit status: 0 every video answered (or shown to have no face), 1 an error or videos that
        could not be read.
    """
    flags = build_parser().parse_args(argv)
    set_up_logging(True)
    try:
        return predict(flags)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130


def predict(flags: argparse.Namespace) -> int:
    """Answer all videos; see `main`.

    Raises:
        ValueError: flags that cannot work together, or a checkpoint that is no fine-tuned model.
        FileNotFoundError: an input or the checkpoint does not exist.
    """
    if (flags.annotate or flags.timeline) and not flags.output_dir:
        raise ValueError("--annotate and --timeline write files: give an --output_dir")
    if flags.num_workers is not None and flags.num_workers < 0:
        raise ValueError(f"--num_workers {flags.num_workers}: must be at least 0")
    if bool(flags.inputs) == (flags.webcam is not None):
        raise ValueError("give either INPUTs or --webcam")
    if flags.webcam is not None and (flags.annotate or flags.timeline):
        raise ValueError("--annotate and --timeline are for files; --webcam draws webcam.jpg")
    if flags.data_set:
        get_spec(flags.data_set)
    style = parse_style(flags.margin) if flags.margin else None
    check_weights("--checkpoint", flags.checkpoint)
    if flags.webcam is not None:
        from svfap.engine.predict import webcam

        return 0 if webcam.watch(_predictor(flags, style), flags.webcam, flags.output_dir) else 1
    videos = list_videos(flags.inputs, flags.pictures)
    if flags.output_dir:
        apart_from(videos, flags.inputs, flags.output_dir)
    predictor, journal = _predictor(flags, style), None
    if flags.output_dir:
        from svfap.engine.predict.files import Journal

        # what decides the answers, to be the same whenever a folder is added to
        settings = {
            "checkpoint": predictor.source, "checkpoint_stamp": stamp_of(predictor.source),
            "averaged": flags.averaged, "names": list(predictor.names), "annotate": flags.annotate,
            "timeline": flags.timeline, **asdict(predictor.options),
        }  # fmt: skip
        journal = Journal(flags.output_dir, settings)
    draw = partial(_draw, timeline=flags.timeline, annotate=flags.annotate)
    return _answer_all(predictor, videos, journal, draw, flags.num_workers)


def _predictor(flags: argparse.Namespace, style: CropStyle | None):
    from svfap.engine.predict.predictor import (  # late: --help and wrong flags answer at once
        PredictionOptions,
        Predictor,
    )

    return Predictor(
        flags.checkpoint,
        PredictionOptions(
            crop=not flags.no_crop,
            faces=flags.faces,
            style=style,
            align=flags.align,
            window_stride=flags.window_stride,
            sampling_rate=flags.sampling_rate,
            fps=flags.fps,
            face_window=tuple(flags.face_window) if flags.face_window else None,
            min_face=flags.min_face,
            backend=flags.reader,
        ),
        device=flags.device,
        amp=flags.amp,
        batch_size=flags.batch_size,
        averaged=flags.averaged,
        model_name=flags.model,
        data_set=flags.data_set,
        class_names=flags.class_names,
    )


def _answer_all(
    predictor, videos: list[NamedVideo], journal, draw: Callable, num_workers: int | None
) -> int:
    from svfap.engine.predict import files as predict_files

    todo = videos
    if journal:
        todo = [video for video in videos if not journal.has(video)]
        if len(todo) < len(videos):
            logger.info("%d of %d videos are answered", len(videos) - len(todo), len(videos))
    names = {video.source: video.name for video in todo}
    counts: Counter[str] = Counter()
    answers: list[tuple[str, str]] = []
    begun = time.monotonic()
    workers = _num_workers(num_workers, len(todo))
    stream = predictor.predict_many([video.source for video in todo], num_workers=workers)
    for number, prediction in enumerate(stream, start=1):
        content = predict_files.as_dict(prediction)
        _tell(content, number, len(todo))
        counts[prediction.status] += 1
        answers += [(content["video"], _answer(track)) for track in content["tracks"]]
        if journal:
            folder = journal.folder / names[prediction.path]
            predict_files.write_video(folder, content, predictor.names)
            draw(prediction, folder)
            journal.add(content)
    if journal:
        journal.close()
        table = journal.folder / predict_files.TABLE
        predict_files.write_table(table, journal.contents(videos), predictor.names)
        logger.info("wrote %s", table)
    return _summary(counts, answers, time.monotonic() - begun)


def _num_workers(asked: int | None, num_videos: int) -> int:
    """Processes that read so many videos; one by itself is no faster than none."""
    from svfap.engine import build

    workers = build.num_workers(asked) if num_videos > 1 else 0
    return 0 if workers == 1 and asked is None else min(workers, num_videos)


def _tell(content: dict, number: int, total: int) -> None:
    """One line per face on the screen, in long lists only now and then."""
    if total > SHOWN_PROBLEMS and content["status"] == "ok" and not content["note"]:
        if number % max(1, total // 100) == 0 or number == total:
            logger.info("%d/%d videos", number, total)
        return
    start = f"{number}/{total} {content['video']}"
    note = f" ({content['note']})" if content["note"] else ""
    if content["status"] != "ok":
        what = {"no_face": f"no face in {content['num_frames']} frames"}
        logger.warning("%s: %s%s", start, what.get(content["status"], content["status"]), note)
    for track in content["tracks"]:
        best = sorted(track["scores"].items(), key=lambda item: -item[1])[:3]
        scores = best if "label" in track else track["scores"].items()
        logger.info(
            "%s: %s, %.1f-%.1f s: %s%s", start, track["what"], track["begin_seconds"],
            track["end_seconds"], "  ".join(f"{name} {score:.3f}" for name, score in scores), note,
        )  # fmt: skip


def _draw(prediction, folder: Path, *, timeline: bool, annotate: bool) -> None:
    from svfap.engine.predict import draw as predict_draw

    if timeline and prediction.tracks:
        predict_draw.plot_timeline(prediction, folder / "timeline.png")
    if annotate and prediction.facts.num_frames:
        predict_draw.annotate_video(prediction, folder / "annotated.mp4")


def _answer(track: dict) -> str:
    """The class, or the numbers, that a face got."""
    if "label" in track:
        return track["label"]
    return "  ".join(f"{name} {score:.3f}" for name, score in track["scores"].items())


def _summary(counts: Counter[str], answers: Sequence[tuple[str, str]], seconds: float) -> int:
    """Say what was done, last of all the answers: one by one, of many how often each was given."""
    bad = counts["unreadable"] + counts["failed"]
    if counts:
        logger.info(
            "%d videos in %.1f s: %d answered, %d without a face, %d unreadable, %d failed",
            counts.total(), seconds, counts["ok"], counts["no_face"], counts["unreadable"],
            counts["failed"],
        )  # fmt: skip
    if len(answers) <= SHOWN_PROBLEMS:
        for video, answer in answers:
            logger.info("%s: %s", video, answer)
    elif (often := Counter(answer for _, answer in answers)) and len(often) < len(answers) / 2:
        logger.info("answers: %s", ", ".join(f"{name} {n}" for name, n in often.most_common()))
    return 1 if bad else 0

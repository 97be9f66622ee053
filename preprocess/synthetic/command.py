"""Draw the embedded default data set: animated faces in the layouts of VoxCeleb2 and DFEW.

    python -m svfap.preprocess.synthetic --output_dir saved/data/synthetic

writes

    synthetic.json                                    settings; a directory keeps one set of them
    voxceleb2/dev/mp4/<id>/<video>/<nnnnn>.mp4        clips for pre-training, 25 frames/s
    voxceleb2/annotation/<id>/<video>/<nnnnn>.npz     what was drawn in them
    dfew/Clip/jpg_256/<clip>/<nnnnn>.jpg              labelled clips (of --size px)
    dfew/EmoLabel_DataSplit/{train,test}(single-labeled)/set_<k>.csv    video_name,label (1..7)
    dfew/annotation/<clip>.npz and subjects.csv       what was drawn, and who

An annotation file holds valence and arousal (T,) in -1..1, landmarks (T, 68, 2) in pixels in the
iBUG order, action_units (T, A) in 0..1 with au_names (A,), pose (T, 3) yaw pitch roll in radians,
and fps.
Folds are subject-independent, and nobody in the pre-training clips is in the labelled ones. What
is drawn depends on the settings alone, never on the number of workers; a run that was stopped
goes on where it was.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import simplejpeg

from svfap.datasets.files import read_json, remove_leftovers, replacing, write_text
from svfap.datasets.rng import generator
from svfap.datasets.tables import write_table
from svfap.preprocess.shared.common import REPEATABLE_H264, add_workers_flag, watched
from svfap.preprocess.shared.workers import parallel
from svfap.preprocess.synthetic.motion import AU_NAMES, EMOTIONS, LEVELS
from svfap.preprocess.synthetic.plan import (
    FIRST_PRETRAIN_SUBJECT,
    SCENES,
    Settings,
    labelled_clip,
    labelled_renderer,
    make_renderer,
    posed_renderer,
    pretrain_clip,
    subject_folds,
)
from svfap.preprocess.synthetic.render import VOXCELEB2, ClipRenderer

SETTINGS_FILE = "synthetic.json"
FRAMES_PER_SECOND = 25
# Flags of the settings of these names.
NUMBERS = {
    "num_pretrain_videos": "mp4 clips",
    "num_labelled_videos": "frame folders",
    "num_identities": "labelled people",
    "num_folds": "subject-independent folds",
    "size": "side of the frames in pixels",
    "min_frames": "shortest clip",
    "max_frames": "longest clip",
    "seed": "other seeds give other people and clips",
}
CHOICES = {
    "scenes": (SCENES, "a background, light and camera for each clip or for each person"),
    "level": (
        LEVELS,
        "easy: full expressions, little pose, light, noise and speech; hard: all as they come",
    ),
}


def write_mp4(path: Path, frames: Iterator[np.ndarray], size: int) -> None:
    """Encode RGB frames (size, size, 3) uint8 as H.264, 25 frames/s, as VoxCeleb2 is stored."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "23", **REPEATABLE_H264}
        stream.codec_context.thread_count = 1
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _write_annotation(path: Path, renderer: ClipRenderer) -> None:
    motion = renderer.motion
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            valence=motion.valence.astype(np.float32),
            arousal=motion.arousal.astype(np.float32),
            landmarks=renderer.landmarks().astype(np.float32),
            action_units=motion.action_units.astype(np.float32),
            au_names=np.array(AU_NAMES),
            pose=motion.pose.astype(np.float32),
            fps=np.array(float(FRAMES_PER_SECOND)),
        )


def _frames(renderer: ClipRenderer) -> Iterator[np.ndarray]:
    return (renderer.frame(t) for t in range(len(renderer.motion.valence)))


def write_labelled(output_dir: Path, settings: Settings, index: int) -> None:
    """Draw one labelled clip unless it is there; the frame folder appears last and complete."""
    name = f"{index + 1:05d}"
    folder = output_dir / "dfew/Clip/jpg_256" / name
    if folder.is_dir():
        return
    renderer = labelled_renderer(settings, index)
    quality = int(renderer.rng.integers(60, 96))
    _write_annotation(output_dir / "dfew/annotation" / f"{name}.npz", renderer)
    with replacing(folder) as temporary:
        temporary.mkdir()
        for t, frame in enumerate(_frames(renderer)):
            data = simplejpeg.encode_jpeg(np.ascontiguousarray(frame), quality=quality)
            (temporary / f"{t + 1:05d}.jpg").write_bytes(data)


def write_pretrain(output_dir: Path, settings: Settings, index: int) -> None:
    """Draw one pre-training clip unless it is there."""
    person, video, name = pretrain_clip(settings, index)
    path = output_dir / "voxceleb2/dev/mp4" / name
    if path.is_file():
        return
    rng = generator(settings.seed, 0, index, 0, "pretraining emotion")
    renderer = make_renderer(
        settings,
        subject=FIRST_PRETRAIN_SUBJECT + person,
        scene=person * 10_000 + video,
        emotion=str(rng.choice(EMOTIONS)),
        index=index,
        stream="pretraining clip",
        framing=VOXCELEB2,
        talk_probability=0.7,
    )
    annotation = output_dir / "voxceleb2/annotation" / name.with_suffix(".npz")
    _write_annotation(annotation, renderer)
    with replacing(path) as temporary:
        write_mp4(temporary, _frames(renderer), settings.size)


def write_tables(output_dir: Path, settings: Settings) -> None:
    """Write the official-style split files and subjects.csv."""
    clips = [labelled_clip(settings, index) for index in range(settings.num_labelled_videos)]
    folds = subject_folds(settings)
    for fold in range(settings.num_folds):
        for part in ("train", "test"):
            rows = [
                (index + 1, EMOTIONS.index(emotion) + 1)
                for index, (subject, emotion) in enumerate(clips)
                if (folds[subject] == fold) == (part == "test")
            ]
            folder = output_dir / "dfew/EmoLabel_DataSplit" / f"{part}(single-labeled)"
            write_table(folder / f"set_{fold + 1}.csv", ("video_name", "label"), rows)
    rows = [
        (f"{i + 1:05d}", f"s{subject + 1:04d}", emotion)
        for i, (subject, emotion) in enumerate(clips)
    ]
    header = ("clip", "subject", "emotion")
    write_table(output_dir / "dfew/annotation/subjects.csv", header, rows)


def _read_settings(path: Path) -> dict:
    try:
        return read_json(path)
    except ValueError as error:
        raise ValueError(
            f"{error}: what it belongs to is not known; choose another --output_dir, or delete the "
            "folder"
        ) from error


def prepare_directory(output_dir: Path, settings: Settings) -> None:
    """Claim the directory for these settings and remove what a stopped run left half-written."""
    path = output_dir / SETTINGS_FILE
    if path.is_file():
        there, wanted = {"level": "hard"} | _read_settings(path), asdict(settings)
        differing = [
            f"{name}: {there.get(name)} there, {wanted[name]} asked for"
            for name in wanted
            if there.get(name) != wanted[name]
        ]
        if differing:
            raise ValueError(
                f"{output_dir} holds a synthetic data set with other settings "
                f"({'; '.join(differing)}). Choose another --output_dir, repeat its settings, "
                "or delete it."
            )
    elif any((output_dir / name).exists() for name in ("dfew", "voxceleb2")):
        raise ValueError(
            f"{output_dir} holds dfew/ or voxceleb2/ but no {SETTINGS_FILE}: it was not made by "
            "this command. Choose another --output_dir."
        )
    else:
        write_text(path, json.dumps(asdict(settings), indent=2) + "\n")
    remove_leftovers(output_dir)


def _start_worker() -> None:
    cv2.setNumThreads(1)


def draw_data_set(output_dir: Path, settings: Settings, *, num_workers: int) -> None:
    """Draw the whole data set, or what is missing of it."""
    prepare_directory(output_dir, settings)
    write_tables(output_dir, settings)
    jobs = [(write_labelled, index) for index in range(settings.num_labelled_videos)]
    jobs += [(write_pretrain, index) for index in range(settings.num_pretrain_videos)]
    if num_workers:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the workers: one core each
    draw = partial(_draw, output_dir, settings)
    with closing(parallel(draw, jobs, num_workers, start=_start_worker)) as drawn:
        for _ in watched(drawn, len(jobs), "clips"):
            pass


def _draw(output_dir: Path, settings: Settings, job: tuple[Callable, int]) -> None:
    write, index = job
    write(output_dir, settings, index)


def contact_sheet(settings: Settings, num_subjects: int = 6) -> np.ndarray:
    """One row per subject, one column per emotion, each at its strongest frame; RGB uint8."""
    rows = []
    for subject in range(num_subjects):
        row = []
        for column, emotion in enumerate(EMOTIONS):
            index = subject * len(EMOTIONS) + column
            renderer = posed_renderer(settings, subject, emotion, index=index, stream="preview")
            strength = np.hypot(renderer.motion.valence, renderer.motion.arousal)
            row.append(renderer.frame(int(strength.argmax())))
        rows.append(np.hstack(row))
    title = np.full((settings.size // 8, rows[0].shape[1], 3), 255, np.uint8)
    for column, emotion in enumerate(EMOTIONS):
        place = (int((column + 0.08) * settings.size), int(0.8 * len(title)))
        scale = settings.size / 300
        cv2.putText(
            title, emotion, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA
        )
    return np.vstack([title, *rows])


def get_parser() -> argparse.ArgumentParser:
    """Flags of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m svfap.preprocess.synthetic",
        description=__doc__.split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add, default = parser.add_argument, Settings()
    add("--output_dir", type=Path, help="where to write; may be left out with --preview")
    for name, text in NUMBERS.items():
        add(f"--{name}", type=int, default=getattr(default, name), help=text)
    add("--num_videos", type=int, help="sets --num_pretrain_videos and --num_labelled_videos")
    add("--num_pretrain_identities", type=int,
        help="other people in the mp4 clips (default: one per four clips)")  # fmt: skip
    for name, (choices, text) in CHOICES.items():
        add(f"--{name}", choices=choices, default=getattr(default, name), help=text)
    add_workers_flag(parser, most=256)
    add("--preview", type=Path, metavar="FILE.png", help="write a contact sheet of the emotions")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: command line without the program's name; None: the process's.
    """
    parser = get_parser()
    args = parser.parse_args(arguments)
    if args.output_dir is None and args.preview is None:
        parser.error("--output_dir DIR is required (or --preview FILE.png for a look)")
    if args.num_videos is not None:
        args.num_pretrain_videos = args.num_labelled_videos = args.num_videos
    if args.num_pretrain_identities is None:
        args.num_pretrain_identities = max(1, args.num_pretrain_videos // 4)
    names = [name for name in asdict(Settings()) if name != "version"]
    settings = Settings(**{name: getattr(args, name) for name in names})
    if args.output_dir is not None:
        draw_data_set(args.output_dir, settings, num_workers=args.num_workers)
        print(
            f"{args.output_dir}: {settings.num_pretrain_videos} clips for pre-training of "
            f"{settings.num_pretrain_identities} people, {settings.num_labelled_videos} "
            f"labelled clips of {settings.num_identities} others in {settings.num_folds} folds"
        )
    if args.preview is not None:
        args.preview.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(args.preview), contact_sheet(settings)[..., ::-1])
        print(f"contact sheet: {args.preview}")

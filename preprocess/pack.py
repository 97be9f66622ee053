"""Videos or frame folders of annotation files -> a packed store and annotation files of it.

Reading clips from a store costs a fraction of decoding videos (docs/benchmarks.md), and no file
system is crawled. Runs take a store by `--data_path` alone:

    python -m svfap.preprocess.pack saved/data/voxceleb2 --output_dir /fast/voxceleb2
    python -m svfap pretrain --data_path /fast/voxceleb2/info_clean.csv ...
"""

import argparse
import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

from svfap.datasets.catalog import get_spec, spec_for_csv
from svfap.datasets.labels.listing import visible_files
from svfap.datasets.video.store import ENCODINGS, MANIFEST, ClipStore
from svfap.datasets.video.store_writer import PackedVideo, StoreWriter, check_shard, check_tables
from svfap.preprocess.shared.common import (
    PreparationError,
    Problems,
    add_workers_flag,
    run_command,
    watched,
)
from svfap.preprocess.shared.pack_frames import FrameSettings, pack_video, use_one_thread
from svfap.preprocess.shared.pack_lists import SourceList, copy_folds, read_source, write_list
from svfap.preprocess.shared.workers import parallel

logger = logging.getLogger(__name__)

CSV_NAMES = ("train.csv", "val.csv", "test.csv", "info_clean.csv")
ESTIMATE_AFTER = 50  # videos after which the size of the whole store is estimated
GIB = 2**30


def find_csvs(inputs: Sequence[Path]) -> dict[Path, Path]:
    """Annotation files -> where they go below the output folder."""
    found: dict[Path, Path] = {}
    for root in inputs:
        if root.is_file():
            found[root] = Path(root.name)
            continue
        below = [path for path in visible_files(root, "*.csv") if path.name in CSV_NAMES]
        if not below:
            raise PreparationError(
                f"{root} is no annotation file and holds none ({', '.join(CSV_NAMES)})"
            )
        found |= {path: path.relative_to(root) for path in below}
    if len(set(found.values())) < len(found):
        raise PreparationError(
            "two of the annotation files have the same name; give their common folder instead: "
            + ", ".join(map(str, found))
        )
    return found


def name_videos(paths: Iterable[str]) -> dict[str, str]:
    """Path -> key: what follows the folder that all paths have in common."""
    absolute = {path: os.path.abspath(path) for path in dict.fromkeys(paths)}
    places = list(absolute.values())
    root = os.path.commonpath(places) if len(set(places)) > 1 else os.path.dirname(places[0])
    return {path: os.path.relpath(place, root) for path, place in absolute.items()}


def face_window(
    flags: argparse.Namespace, csvs: Iterable[Path]
) -> tuple[int, int, int, int] | None:
    """Part of the frames that is kept, chosen as the runs choose it; says why."""
    if flags.face_window:
        return tuple(flags.face_window)
    if flags.whole_frames:
        return None
    specs = [get_spec(flags.data_set)] if flags.data_set else [spec_for_csv(csv) for csv in csvs]
    windows = {spec.face_window(flags.input_size) if spec else None for spec in specs}
    if len(windows) > 1:
        raise PreparationError(
            f"the annotation files want different face windows ({windows}); pack them apart, or "
            "choose with --face_window or --whole_frames"
        )
    window = windows.pop()
    if window:
        why = "--data_set" if flags.data_set else "the path of the CSV"
        logger.info(
            "only (top, left, height, width) = %s of each frame is kept, chosen by %s; "
            "--whole_frames keeps all", window, why,
        )  # fmt: skip
    return window


def pack(
    videos: dict[str, str],
    output_dir: Path,
    settings: FrameSettings,
    *,
    shard_bytes: int,
    num_workers: int,
) -> ClipStore:
    """Write the store, or what is missing of it.

    Args:
        videos: path -> key, in the order of the store.
        num_workers: processes that decode and encode; 0 does it in this one.

    Raises:
        StoreError: the folder holds something else.
    """
    keys = "\n".join(videos.values())
    facts = asdict(settings) | {"keys_sha256": hashlib.sha256(os.fsencode(keys)).hexdigest()}
    with StoreWriter(output_dir, facts, shard_bytes=shard_bytes) as writer:
        if not writer.finished:
            _append_missing(writer, videos, settings, num_workers)
            sources = sorted({os.path.dirname(os.path.abspath(path)) for path in videos})
            common = os.path.commonpath(sources)
            writer.finish({"source": common, "versions": _versions()})
    return ClipStore(output_dir / MANIFEST)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("av", "simplejpeg", "numpy", "opencv-python-headless")}


def _append_missing(
    writer: StoreWriter, videos: dict[str, str], settings: FrameSettings, num_workers: int
) -> None:
    todo = list(videos.items())[writer.num_videos :]
    if writer.num_videos:
        logger.info("%d of %d videos are packed already", writer.num_videos, len(videos))
    num_bytes, done = 0, writer.num_videos
    work = partial(_pack, settings=settings)
    with closing(parallel(work, todo, num_workers, start=use_one_thread, in_order=True)) as packed:
        shown = watched(packed, len(videos), "videos packed", done=done)
        for count, video in enumerate(shown, 1):
            writer.add(video)
            num_bytes += len(video.data)
            if count == ESTIMATE_AFTER:
                _check_room(writer.folder, num_bytes / count * (len(todo) - count))


def _pack(video: tuple[str, str], settings: FrameSettings) -> PackedVideo:
    return pack_video(*video, settings)


def _check_room(folder: Path, expected: float) -> None:
    free = shutil.disk_usage(folder).free
    logger.info("about %.1f GiB more, %.1f GiB are free", expected / GIB, free / GIB)
    if expected > free:
        raise PreparationError(
            f"{folder}: about {expected / GIB:.1f} GiB are needed, {free / GIB:.1f} GiB are free; "
            "make room (the same command goes on), or lower --quality or --resize"
        )


def write_lists(
    sources: Sequence[SourceList], keys: dict[str, str], store: ClipStore, *, leave_out: bool
) -> None:
    """Write the annotation files of a store: the same labels, paths into the store."""
    folder = Path(store.folder)
    unreadable = {
        store.key(row): note
        for row, note in store.notes.items()
        if store.videos["num_frames"][row] == 0
    }
    problems = Problems([f"{key}: {note}" for key, note in unreadable.items()])
    if leave_out:
        logger.warning("%d unreadable videos left out", len(unreadable))
    else:
        problems.raise_if_any(
            "videos that cannot be read",
            report=folder / "problems.txt",
            remedy="repair them and pack into a new folder, or leave them out of the annotation "
            "files with --leave_out_unreadable",
        )
    for source in sources:
        write_list(source, folder, keys, set(unreadable))


def verify(folder: Path, num_workers: int) -> None:
    """Compare all checksums of a store."""
    problems = Problems(check_tables(folder))
    if not problems.lines:
        videos = ClipStore(folder / MANIFEST).videos
        shards = range(int(videos["shard"].max(initial=0)) + 1)
        checked = parallel(partial(check_shard, folder), shards, num_workers)
        for lines in watched(checked, len(shards), "shards checked"):
            problems.lines += lines
    problems.raise_if_any(
        f"{folder}: damaged store",
        report=folder / "problems.txt",
        remedy="copy the named files again, or pack again into a new folder",
    )
    logger.info("%s: all checksums fit", folder)


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.pack`."""
    parser = argparse.ArgumentParser(
        "preprocess.pack", description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("inputs", type=Path, nargs="*", metavar="CSV_OR_DIR", help="lists of videos")
    add("--output_dir", type=Path, metavar="DIR", help="folder of the store")
    add("--verify", type=Path, metavar="DIR", help="only check this store")
    add("--data_root", metavar="DIR", help="prefix of relative paths in the CSVs")
    add("--data_set", metavar="NAME", help="chooses the face window")
    add("--input_size", type=int, default=160, metavar="PX",
        help="side of the clips that runs will make, which the data set's face window depends on"
    )  # fmt: skip
    add("--face_window", type=int, nargs=4, metavar=("TOP", "LEFT", "HEIGHT", "WIDTH"),
        help="part of each frame that is kept, pixels; otherwise the data set's")  # fmt: skip
    add("--whole_frames", action="store_true", help="cut nothing off")
    add("--resize", type=int, metavar="PX", help="make frames square, as fine-tuning does anyway")
    add("--encoding", choices=ENCODINGS, default="jpeg", help="png and raw are lossless")
    add("--quality", type=int, default=90, help="of jpeg, 1 to 100")
    add("--shard_gib", type=float, default=2.0, help="size of a shard")
    add("--leave_out_unreadable", action="store_true", help="instead of stopping")
    add_workers_flag(parser, most=32)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Pack, or verify."""
    flags = build_parser().parse_args(argv)
    if flags.verify:
        verify(flags.verify, flags.num_workers)
        return
    if not (flags.inputs and flags.output_dir):
        raise PreparationError("give annotation files and --output_dir; see --help")
    if not 1 <= flags.quality <= 100:
        raise PreparationError(f"--quality {flags.quality}: it must be 1 to 100")
    csvs = find_csvs(flags.inputs)
    sources = [read_source(csv, target, flags.data_root) for csv, target in csvs.items()]
    videos = name_videos(path for source in sources for path in source.rows.paths)
    settings = FrameSettings(
        encoding=flags.encoding,
        quality=flags.quality if flags.encoding == "jpeg" else None,
        face_window=face_window(flags, csvs),
        resize=flags.resize,
    )
    shard_bytes, num_workers = int(flags.shard_gib * GIB), flags.num_workers
    store = pack(
        videos, flags.output_dir, settings, shard_bytes=shard_bytes, num_workers=num_workers
    )
    write_lists(sources, videos, store, leave_out=flags.leave_out_unreadable)
    copy_folds(flags.inputs, flags.output_dir)
    facts = store.manifest
    logger.info(
        "%s: %d videos, %d frames, %.2f GiB in %d shards", flags.output_dir, facts["num_videos"],
        facts["num_frames"], facts["num_bytes"] / GIB, facts["num_shards"],
    )  # fmt: skip


if __name__ == "__main__":
    run_command(main)

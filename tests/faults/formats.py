"""A whole file of every kind that the program reads, and what reads it."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np

from svfap.datasets.clips.timeline import frame_times
from svfap.datasets.faces.landmarks import read_landmarks, write_landmarks
from svfap.datasets.files import read_arrays
from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.labels.classes import LabelNames, read_classes, write_classes
from svfap.datasets.tables import read_table, write_table
from svfap.datasets.video.frame_index import FrameIndex, KnownFrames, write_index
from svfap.datasets.video.frame_rate import read_frame_rate, write_frame_rate
from svfap.datasets.video.open_video import open_video
from svfap.datasets.video.store import open_store
from svfap.datasets.video.store_writer import PackedVideo, StoreWriter
from svfap.engine.flags.config import pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.identity import identify
from svfap.engine.predict import files as answers
from svfap.engine.results.find import find_results, read_log, subjects_of
from svfap.engine.results.groups import read_groups
from svfap.engine.runtime import checkpoint, rundir
from svfap.models.convert import convert
from svfap.preprocess.shared import face_journal, probe
from svfap.preprocess.shared.common import Problems
from svfap.preprocess.shared.face_jobs import FaceSettings, Outcome
from svfap.preprocess.shared.safe_pickle import load_plain_pickle
from svfap.preprocess.shared.subject_folds import read_folds
from tests.faults.damage import Format
from tests.faults.same import plain
from tests.lab_trees import write_image
from tests.video_files import write_video

CODECS = {"mp4": "libx264", "avi": "mpeg4", "mkv": "libx264", "webm": "libvpx", "mov": "mpeg4",
          "flv": "flv", "wmv": "wmv2", "mpg": "mpeg1video"}  # fmt: skip


def all_formats(folder: Path, pretrained: Path, finetuned: Path) -> list[Format]:
    """Files in a folder and in two finished run directories, and how they are read."""
    return [
        *_videos(folder), *_stores(folder), *_tables(folder), *_journals(folder),
        *_arrays(folder), *_labels(folder), *_settings(folder), *_weights(pretrained, finetuned),
        *_results(finetuned),
    ]  # fmt: skip


def _frames(path: Path) -> object:
    with open_video(path) as video:
        indices, frames = video.read_chosen(np.arange)
    with open_video(path) as video:
        blocks = [plain(block) for block in video.blocks()]
    return plain([indices, frames, blocks])


def _videos(folder: Path):
    for suffix, codec in CODECS.items():
        path = Path(write_video(folder / f"video.{suffix}", codec, 10, size=(32, 48), gop=5))
        yield Format(suffix, path, lambda path=path: _frames(path))
    for suffix in ("jpg", "png"):
        for number in range(3):
            write_image(folder / f"frames_{suffix}" / f"{number:05d}.{suffix}")
        path = folder / f"frames_{suffix}" / f"00001.{suffix}"
        yield Format(suffix, path, lambda path=path: _frames(path.parent), named=path.parent.name)
        alone = folder / f"alone.{suffix}"
        write_image(alone)
        yield Format(f"single {suffix}", alone, lambda alone=alone: _frames(alone))


def _stores(folder: Path):
    place = folder / "store"
    rng = np.random.default_rng(0)
    with StoreWriter(place, {"encoding": "raw", "face_window": None}, shard_bytes=900) as writer:
        for n in range(6):
            frames = rng.integers(0, 255, (3, 8, 8, 3), dtype=np.uint8)
            ends, note = 192 * np.arange(1, 4), "torn" if n == 2 else None
            times = np.array([0.0, 0.1, 0.3]) if n == 3 else None
            writer.add(PackedVideo(f"{n}.mp4", frames.tobytes(), ends, 8, 8, fps=25, note=note,
                                   seconds=times))  # fmt: skip
        writer.finish({"source": "/data", "versions": {}})

    def read():
        open_store.cache_clear()
        videos = [open_video(f"{place}/manifest.json#{n}.mp4") for n in range(6)]
        return [plain([v.read(range(3)), v.fps, v.problem, frame_times(v)]) for v in videos]

    for path in sorted(place.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            named = "" if path.suffix != ".bin" else "store"
            checked = not path.name.startswith("shard")
            journal = path.suffix == ".jsonl"
            yield Format(f"store {path.name}", path, read, checked=checked and not journal,
                         journal=journal, named=named)  # fmt: skip


def _tables(folder: Path):
    names = [folder / f"video.{suffix}" for suffix in list(CODECS)[:4]]
    lists = folder / "train.csv"
    lists.write_text("".join(f"{name} {n % 2}\n" for n, name in enumerate(names)))
    ids = list(map(str, names))

    def rows():
        found = read_annotations(lists, task="classification", names=("a", "b"))
        return plain([list(found.paths), found.labels])

    yield Format("annotations", lists, rows)
    table = folder / "subjects.csv"
    write_table(table, ("path", "subject"), ((name, f"p{n}") for n, name in enumerate(ids)))
    yield Format("subjects.csv", table, lambda: subjects_of(table, ids))
    groups = folder / "groups.csv"
    write_table(groups, ("path", "group"), ((name, "g") for name in ids))
    yield Format("groups.csv", groups, lambda: read_groups(groups, ids))
    folds = folder / "folds.csv"
    write_table(folds, ("subject", "fold"), ((f"p{n}", n % 2) for n in range(6)))
    people = {f"p{n}" for n in range(6)}

    def fold_table(path):
        problems = Problems()
        found = read_folds(path, people, problems)
        problems.raise_if_any("folds file", report=folder / "problems.txt")
        return found

    yield Format("folds.csv", folds, lambda: fold_table(folds))
    parts = [{"name": f"split0{n}", "test_subjects": [f"p{n}", f"p{n + 2}"]} for n in range(2)]
    parts[0]["test_subjects"].append("p4")
    parts[1]["test_subjects"].append("p5")
    listed = folder / "folds.json"
    listed.write_text(json.dumps({"folds": parts, "seed": 0}, indent=1))
    yield Format("folds.json", listed, lambda: fold_table(listed))
    other = folder / "unreadable.csv"
    write_table(other, ("path", "status", "reason"), ((name, "skipped", "x") for name in ids))
    yield Format("unreadable.csv", other, lambda: read_table(other, ("path", "status", "reason")))


def _journals(folder: Path):
    track = dict.fromkeys(face_journal.TRACK_COLUMNS, 1) | {"output": "a"}
    journal = face_journal.Journal(folder / "faces", FaceSettings())
    for n in range(5):
        journal.add(Outcome(f"/v/{n}.mp4", "ok", fps=25.0, num_frames=9, tracks=[track]))
    journal.close()

    def faces():
        found = face_journal.read_journal(folder / "faces", FaceSettings())
        face_journal.write_table(folder / "faces", found.values())
        return plain(found)

    path = folder / "faces" / face_journal.JOURNAL
    yield Format("faces.jsonl", path, faces, journal=True, named="faces")
    content = {"video": "a.mp4", "status": "ok", "note": "", "num_frames": 3, "fps": 25,
               "frames_without_face": 0,
               "tracks": [{"track": 1, "scores": {"a": 0.5}}]}  # fmt: skip
    written = answers.Journal(folder / "answers", {"crop": False})
    for n in range(4):
        written.add(content | {"video": f"{n}.mp4"})
    written.close()

    def predicted():
        again = answers.Journal(folder / "answers", {"crop": False})
        again.close()
        known = [entry["content"] for entry in again.done.values()]
        answers.write_table(folder / "answers" / "t.csv", known, ["a"])
        return known

    path = folder / "answers" / answers.JOURNAL
    yield Format("predictions.jsonl", path, predicted, journal=True, named="answers")
    clip = folder / "frames_jpg"
    probed = folder / "probed.csv"

    def probing():
        found = probe.probe_all([str(clip)], journal=probed, num_workers=0)
        return [(one.path, one.num_frames, one.note) for one in found]

    probing()
    yield Format("probed.csv", probed, probing)


def _arrays(folder: Path):
    index = folder / "frame_index.npy"
    known = {f"{n}.mp4": KnownFrames(100 + n, 20 + n, None) for n in range(5)}
    write_index(index, known.items())

    def lengths():
        found = [FrameIndex(index).get(name) for name in known]
        return None if found == [None] * 5 else found

    yield Format("frame_index.npy", index, lengths, checked=True, cache=True)
    marks = folder / "landmarks.npz"
    write_landmarks(marks, np.random.default_rng(0).random((6, 68, 2), np.float32) * 90, 25.0)
    yield Format("landmarks.npz", marks, lambda: plain(read_landmarks(marks)), checked=True)
    features = folder / "features.npz"
    np.savez(features, feature=np.ones((4, 3), np.float32), label=np.arange(4))
    yield Format(
        "features.npz", features, lambda: plain(read_arrays(features, ["feature", "label"]))
    )
    labels = folder / "labels.npz"
    np.savez(labels, valence=np.linspace(-1, 1, 9), arousal=np.zeros(9))
    listed = folder / "of_frames.csv"
    listed.write_text(f"{folder / 'video.mp4'} {labels}\n")

    def per_frame():
        found = read_annotations(listed, task="regression_frames", names=("valence", "arousal"))
        return plain(found.labels[0])

    yield Format("labels of frames", labels, per_frame, checked=True)


def _labels(folder: Path):
    names = LabelNames(task="classification", class_names=("glad", "sad"))
    path = write_classes(folder, names)
    yield Format("classes.json", path, lambda: plain(read_classes(folder)))
    write_frame_rate(folder, 25.0)
    rate = folder / "frame_rate.json"
    yield Format("frame_rate.json", rate, lambda: read_frame_rate(folder / "train.csv"))
    scores = {f"video{n}.mp4": {"openness": 0.5 + n / 10} for n in range(4)}
    pickled = folder / "labels.pkl"
    pickled.write_bytes(pickle.dumps(scores, protocol=2))
    yield Format("pickle", pickled, lambda: load_plain_pickle(pickled))


def _settings(folder: Path):
    path = folder / "flags.yaml"
    path.write_text("lr: 1e-3\nepochs: 7\nmodel: pretrain_svfap_tiny_patch8_64\n"
                    "data_path: x.csv\nnum_workers: 0\n")  # fmt: skip

    def flags():
        return plain(vars(parse_flags(pretraining_parser(), ["--config", str(path)])))

    yield Format("yaml", path, flags)


def _weights(pretrained: Path, finetuned: Path):
    for run in (pretrained, finetuned):
        path = run / checkpoint.LAST
        yield Format(f"checkpoint of {run.name}", path,
                     lambda path=path: plain(checkpoint.read(path)), checked=True)  # fmt: skip

    def built(path):
        found = identify(path)
        model, _ = found.build()
        return plain([found.labels, found.sampling_rate, model.state_dict()])

    weights = finetuned / "weights.pth"
    shutil.copy(finetuned / checkpoint.LAST, weights)
    yield Format("weights .pth", weights, lambda: built(weights), checked=True)
    tensors = finetuned / "weights.safetensors"
    convert(weights, tensors)
    yield Format("weights .safetensors", tensors, lambda: built(tensors), checked=True)


def _results(run: Path):
    def results():
        (found,) = find_results([run])
        return plain([found.metrics, found.weights, found.split, found.predictions.columns()])

    yield Format("pred.csv", run / "pred.csv", results)
    yield Format("metrics.json", run / "metrics.json", results)
    log = run / "log.jsonl"
    yield Format("log.jsonl", log, lambda: plain(read_log(log)), journal=True)
    config = run / "config.json"
    yield Format("config.json", config, lambda: plain(rundir.origin_in(run)))

"""The checks of preprocess.doctor: each looks at folds and scans and returns findings."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from svfap.datasets.video.open_video import natural_key
from svfap.preprocess.doctor.data import Fold, Split
from svfap.preprocess.doctor.pairs import MAX_PAIRED, Pair
from svfap.preprocess.doctor.scan import Scan

PROBLEM, WARNING, NOTE = "problem", "warning", "note"
# Official parts that are known to share people.
SHARED_BY_DESIGN = ("ChaLearn",)
USUAL_RATE = 4  # `--sampling_rate`
CUT_LENGTH = 16  # frames per clip in the release of DFEW that gives bad results
MOSTLY = 0.9
SMALL_PX = 64
# Shares of frames without a face, and of the frame's shorter side that a face takes.
NO_FACE_PROBLEM, NO_FACE_WARNING = 0.5, 0.2
SMALL_FACE_PROBLEM, SMALL_FACE_WARNING, WIDE_FACE_PROBLEM = 0.30, 0.40, 0.45
SHIFT_WARNING = 0.15


@dataclass
class Finding:
    """One thing found."""

    level: str  # "problem" (exit status 1), "warning" or "note"
    check: str
    text: str
    items: list[str] = field(default_factory=list)  # what it is about, one line each


def number_of(items: Sequence, word: str) -> str:
    """`3 videos`, `1 video`."""
    return f"{len(items):,} {word}{'s' * (len(items) != 1)}"


def check_files(fold: Fold) -> Iterator[Finding]:
    """Annotation files that cannot be read or have problems in their lines."""
    for split in fold.splits:
        if split.errors:
            text = f"{split.path}: problems in its lines"
            yield Finding(PROBLEM, "annotations", text, split.errors)


def check_readable(scans: Mapping[str, Scan]) -> Iterator[Finding]:
    """Videos that cannot be opened, or only in part."""
    broken = [f"{scan.path}: {scan.error}" for scan in scans.values() if scan.error]
    damaged = [f"{scan.path}: {scan.note}" for scan in scans.values() if scan.note]
    if broken:
        text = f"{len(broken)} of {len(scans)} videos cannot be read"
        yield Finding(PROBLEM, "unreadable", text, broken)
    if damaged:
        text = f"damaged but usable: {number_of(damaged, 'video')}"
        yield Finding(WARNING, "damaged", text, damaged)


def check_overlap(fold: Fold) -> Iterator[Finding]:
    """The same path in two parts."""
    for one, other in _part_pairs(fold):
        first, second = set(one.annotations.paths), set(other.annotations.paths)
        shared = sorted(first & second, key=natural_key)
        if not shared:
            continue
        if {one.name, other.name} == {"val", "test"} and first == second:
            text = f"{fold.folder}: val.csv repeats test.csv; do not choose 'best' weights by it"
            yield Finding(WARNING, "overlap", text)
        else:
            text = f"{fold.folder}: {number_of(shared, 'video')} in {one.name} and in {other.name}"
            yield Finding(PROBLEM, "overlap", text, shared)


def _part_pairs(fold: Fold) -> list[tuple[Split, Split]]:
    readable = [split for split in fold.splits if split.annotations is not None]
    return list(combinations(readable, 2))


def check_subjects(fold: Fold) -> Iterator[Finding]:
    """People in training and in validation or test."""
    by_design = fold.spec is not None and fold.spec.name in SHARED_BY_DESIGN
    for one, other in _part_pairs(fold):
        if one.name != "train" or one.subjects is None or other.subjects is None:
            continue
        counts = Counter(one.subjects), Counter(other.subjects)
        shared = sorted(set(counts[0]) & set(counts[1]), key=natural_key)
        if not shared:
            continue
        items = [
            f"subject {s}: {counts[0][s]} videos in {one.name}, {counts[1][s]} in {other.name}"
            for s in shared
        ]
        text = (
            f"{fold.folder}: {len(shared)} of {len(counts[1])} subjects of {other.name} are also "
            f"in {one.name}" + (" (the official parts share people)" if by_design else "")
        )
        yield Finding(WARNING if by_design else PROBLEM, "subjects", text, items)


def check_pairs(folds: Sequence[Fold], pairs: Sequence[Pair], num_scans: int) -> Iterator[Finding]:
    """Videos that look the same in different parts, in one part, or under different labels.

    Copies are problems. What looks alike without being a copy may be one person, acting twice.
    """
    for fold in folds:
        places = _places(fold)
        across, labels, within, alike = [], [], [], []
        for pair in pairs:
            one, other = places.get(pair.first), places.get(pair.second)
            if not one or not other:
                continue
            line = f"{pair.first} ({'/'.join(one)}) and {pair.second} ({'/'.join(other)})"
            line += f", {pair.distance} bits apart"
            if not pair.copies:
                alike.append(line)
                continue
            if _labels(one) != _labels(other):
                labels.append(f"{line}: labels {_labels(one)} and {_labels(other)}")
            (within if set(one) == set(other) else across).append(line)
        for level, check, lines, what in (
            (PROBLEM, "duplicates", across, "of equal-looking videos in different parts"),
            (PROBLEM, "labels", labels, "of equal-looking videos with different labels"),
            (WARNING, "duplicates", within, "of equal-looking videos in one part"),
            (NOTE, "alike", alike, "of videos that look alike: one person twice, or cut copies"),
        ):
            if lines:
                text = f"{fold.folder}: {number_of(lines, 'pair')} {what}"
                yield Finding(level, check, text, lines)
    if num_scans > MAX_PAIRED:
        text = f"more than {MAX_PAIRED} videos: only exact duplicates were looked for"
        yield Finding(NOTE, "duplicates", text)


def _places(fold: Fold) -> dict[str, dict[str, str]]:
    """Label by part for every path of a fold."""
    places: dict[str, dict[str, str]] = {}
    for split in fold.splits:
        if split.annotations is None:
            continue
        classes = all(column.classes is not None for column in fold.columns)
        for path, label in zip(split.annotations.paths, split.annotations.labels, strict=True):
            text = " ".join(f"{v:g}" for v in np.atleast_1d(label)) if classes else ""
            places.setdefault(path, {})[split.name] = text
    return places


def _labels(place: Mapping[str, str]) -> str:
    return "/".join(sorted(set(place.values())))


def check_lengths(
    folds: Sequence[Fold], scans: Mapping[str, Scan], *, clip_frames: int
) -> Iterator[Finding]:
    """Clips cut to 16 frames, and videos shorter than a clip."""
    readable = [scan for scan in scans.values() if scan.readable]
    videos = [scan for scan in readable if scan.num_frames > 1]
    folders = [scan for scan in videos if Path(scan.path).is_dir()]
    cut = [scan for scan in folders if scan.num_frames == CUT_LENGTH]
    if len(folders) > 1 and len(cut) >= MOSTLY * len(folders):
        dfew = any(fold.spec is not None and fold.spec.name == "DFEW" for fold in folds)
        text = (
            f"{len(cut)} of {len(folders)} frame folders hold exactly {CUT_LENGTH} frames: these "
            "are clips sampled down, with which results are much worse; take the frames of "
            "original length"
        )
        items = sorted({str(Path(scan.path).parent) for scan in cut})
        yield Finding(PROBLEM if dfew else WARNING, "lengths", text, items)
    short = [scan for scan in videos if scan.num_frames < clip_frames]
    if short:
        text = f"{number_of(short, 'video')} with fewer than {clip_frames} frames, which repeat"
        items = [f"{scan.path}: {scan.num_frames} frames" for scan in short]
        if least := sum(1 < scan.num_frames < USUAL_RATE for scan in short):
            text += f"; {least} with fewer than {USUAL_RATE}: all their frames are shown"
        yield Finding(NOTE, "lengths", text, items)
    if readable and not videos:
        yield Finding(NOTE, "lengths", "single images: every video has one frame")


def check_sizes(scans: Mapping[str, Scan]) -> Iterator[Finding]:
    """Frames that are tiny, or of many sizes."""
    readable = [scan for scan in scans.values() if scan.readable]
    small = [scan for scan in readable if min(scan.height, scan.width) < SMALL_PX]
    if small:
        text = f"{len(small)} of {len(readable)} videos are smaller than {SMALL_PX} pixels"
        items = [f"{scan.path}: {scan.width} x {scan.height}" for scan in small]
        yield Finding(WARNING, "sizes", text, items)


def check_faces(scans: Mapping[str, Scan], missing: str | None) -> Iterator[Finding]:
    """Full frames instead of face crops."""
    if missing:
        yield Finding(NOTE, "faces", f"faces were not looked for: {missing}")
        return
    seen = [scan for scan in scans.values() if scan.faces is not None]
    shares = np.array([share for scan in seen for share in scan.faces])
    if shares.size == 0:
        return
    none, found = float((shares == 0).mean()), shares[shares > 0]
    lacking = [scan.path for scan in seen if not any(scan.faces)]
    if none > NO_FACE_WARNING:
        level = PROBLEM if none > NO_FACE_PROBLEM else WARNING
        text = (
            f"no face in {none:.0%} of the frames looked at; none at all in {len(lacking)} videos"
        )
        yield Finding(level, "faces", text, lacking)
    middle = float(np.median(found)) if found.size else 1.0
    wide = np.mean([max(s.height, s.width) > 1.2 * min(s.height, s.width) for s in seen])
    full = middle < SMALL_FACE_PROBLEM or (middle < WIDE_FACE_PROBLEM and wide > 0.5)
    if full or middle < SMALL_FACE_WARNING:
        text = (
            f"faces take {middle:.0%} of the frame's shorter side (median): these look like full "
            "frames, not face crops, which ruins the results; crop them with preprocess.faces"
        )
        yield Finding(PROBLEM if full else WARNING, "faces", text)


def check_classes(fold: Fold) -> Iterator[Finding]:
    """Classes that lack training or test videos, parts that differ, published histograms."""
    if not fold.one_class:
        return
    names = fold.names.class_names
    counts = {
        split.name: np.bincount(split.labels_of(), minlength=len(names))
        for split in fold.splits
        if split.annotations is not None
    }
    for part, numbers in counts.items():
        absent = [name for name, number in zip(names, numbers) if number == 0]
        if absent and part in ("train", "test"):
            text = f"{fold.folder}: no {part} videos of {', '.join(absent)}"
            yield Finding(PROBLEM if part == "train" else WARNING, "classes", text)
    if "train" in counts and "test" in counts:
        shares = [counts[part] / max(1, counts[part].sum()) for part in ("train", "test")]
        shift = float(np.abs(shares[0] - shares[1]).sum() / 2)
        if shift > SHIFT_WARNING and min(counts["train"].sum(), counts["test"].sum()) >= 50:
            text = f"{fold.folder}: class shares of train and test differ by {shift:.0%}"
            yield Finding(WARNING, "classes", text)
    yield from _check_published(fold, counts)


def _check_published(fold: Fold, counts: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    """Numbers per class against the published ones; all parts together are "all"."""
    if fold.spec is None or tuple(fold.names.class_names) != fold.spec.class_names:
        return
    together = dict(counts)
    distinct = _distinct(fold)
    if distinct is not None:
        together["all"] = distinct
    for part, published in fold.spec.class_counts.items():
        if part not in together or (part == "train" and "val" in counts and _carved(fold)):
            continue
        wrong = [
            f"{name}: {found}, published {wanted}"
            for name, found, wanted in zip(fold.names.class_names, together[part], published)
            if found != wanted
        ]
        if wrong:
            text = f"{fold.folder}: {len(wrong)} classes of {part} differ from the published counts"
            yield Finding(WARNING, "published", text, wrong)
    total = fold.spec.counts.get("all")
    found = None if distinct is None else int(distinct.sum())
    if total and "all" not in fold.spec.class_counts and found not in (None, total):
        text = f"{fold.folder}: {found:,} videos in all, published {total:,}"
        yield Finding(WARNING, "published", text)


def _distinct(fold: Fold) -> np.ndarray | None:
    """Videos per class over train, val and test, each counted once; None if a part is absent."""
    if fold.get("train") is None or fold.get("test") is None:
        return None
    labels = {}
    for split in fold.splits:
        if split.annotations is not None:
            labels.update(zip(split.annotations.paths, split.labels_of(), strict=True))
    return np.bincount(list(labels.values()), minlength=len(fold.names.class_names))


def _carved(fold: Fold) -> bool:
    """The validation part was taken out of the training part."""
    val, test = fold.get("val"), fold.get("test")
    if val is None or "val" in fold.spec.counts:
        return False
    return test is None or set(val.annotations.paths) != set(test.annotations.paths)


def run_checks(
    folds: Sequence[Fold],
    scans: Mapping[str, Scan],
    pairs: Sequence[Pair],
    *,
    clip_frames: int,
    no_faces: str | None,
    subjects_from: str,
) -> list[Finding]:
    """All findings, problems first."""
    findings = list(check_readable(scans))
    for fold in folds:
        for check in (check_files, check_overlap, check_subjects, check_classes):
            findings += check(fold)
    if not subjects_from and any(len(fold.splits) > 1 for fold in folds):
        text = (
            "subjects are unknown: whether people are in training and test was not checked; give "
            "--subjects CSV (columns path and subject)"
        )
        findings.append(Finding(NOTE, "subjects", text))
    findings += check_pairs(folds, pairs, len(scans))
    findings += check_lengths(folds, scans, clip_frames=clip_frames)
    findings += check_sizes(scans)
    findings += check_faces(scans, no_faces)
    order = (PROBLEM, WARNING, NOTE)
    return sorted(findings, key=lambda finding: order.index(finding.level))

"""Known ways of naming files: what paths say of class and person, and a guess for other names."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.labels.listing import find_pictures, find_videos
from svfap.datasets.tables import read_text
from svfap.preprocess.shared.common import PreparationError, say
from svfap.preprocess.shared.custom_sources import PARTS, Sample, Source

CKPLUS = ("neutral", "anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")


def _emotion(folder: Path, match: re.Match) -> str | None:
    """The class of a sequence of CK+, whose number stands in a file of its own; many have none."""
    files = sorted(folder.glob(f"**/Emotion/{match['subject']}/{match['take']}/*_emotion.txt"))
    if not files:
        return None
    text = read_text(files[0]).strip()
    known = {f"{number:g}": name for number, name in enumerate(CKPLUS)}
    try:
        return known[f"{float(text):g}"]
    except (ValueError, KeyError):
        raise PreparationError(
            f"{files[0]}: {text[:20]!r} is no emotion of CK+, which are 0 to {len(CKPLUS) - 1}"
        ) from None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way of naming.

    Attributes:
        about: what paths look like, for people.
        pattern: searched in the path below the folder; of its groups `label`, `subject`, `part`
            (train, val, test) and `clip` (what copies of a recording share) those that it has.
        names: class by what `label` finds; by default as it is written.
        pictures: every picture is a sample; else videos and folders of frames are.
        label_of: class of a match where the path does not say it; None: the sample is not used.
    """

    about: str
    pattern: re.Pattern
    names: Mapping[str, str] = field(default_factory=dict)
    pictures: bool = False
    label_of: Callable[[Path, re.Match], str | None] | None = None


def _codes(data_set: str, codes: Sequence[str]) -> dict[str, str]:
    return dict(zip(codes, get_spec(data_set).class_names, strict=True))


LAYOUTS = {
    "ravdess": (
        Layout(
            about="MM-01-EE-II-SS-RR-AA (speech; songs and sound-only files are not used)",
            pattern=re.compile(
                r"(?:^|/)0[12]-01-(?P<clip>(?P<label>\d\d)-\d\d-\d\d-\d\d-(?P<subject>\d\d))(?:\.|$)"
            ),
            names=_codes("RAVDESS", [f"{number:02d}" for number in range(1, 9)]),
        ),
    ),
    "cremad": (
        Layout(
            about="NNNN_SSS_EMO_XX",
            pattern=re.compile(
                r"(?:^|/)(?P<subject>\d{4})_[A-Z]{3}_(?P<label>[A-Z]{3})_(?:LO|MD|HI|XX?)(?:\.|$)"
            ),
            names=_codes("CREMA-D", ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")),
        ),
    ),
    "mead": (
        Layout(
            about="M003/video/front/EMOTION/level_N/NNN.mp4 (the other views are not used)",
            pattern=re.compile(
                r"(?:^|/)(?P<subject>[MW]\d{3})/(?:video/)?front/(?P<label>[a-z]+)/level_\d/\d+"
            ),
        ),
    ),
    "ckplus": (
        Layout(
            about="EMOTION/S010_004_00000017.png (pictures)",
            pattern=re.compile(r"(?P<label>[^/]+)/(?P<subject>S\d{3})_\d{3}_\d{8}\.\w+$"),
            pictures=True,
        ),
        Layout(
            about="S010/004/*.png, with Emotion/S010/004/*_emotion.txt in the same folder",
            pattern=re.compile(r"(?:^|/)(?P<subject>S\d{3})/(?P<take>\d{3})$"),
            label_of=_emotion,
        ),
    ),
    "fer2013": (
        Layout(
            about="train/EMOTION/*.jpg and test/EMOTION/*.jpg (of the table fer2013.csv: "
            "python -m svfap.preprocess.fer2013)",
            pattern=re.compile(r"(?:^|/)(?P<part>train|val\w*|test)/(?P<label>[^/]+)/[^/]+$"),
            pictures=True,
        ),
    ),
}  # fmt: skip


# The layouts whose paths say who is seen: the first group does.
PEOPLE_IN_NAMES = {
    name: re.compile(re.sub(r"\?P<(\w+)>", lambda m: "" if m[1] == "subject" else "?:", p.pattern))
    for name, forms in LAYOUTS.items()
    for p in (layout.pattern for layout in forms)
    if "subject" in p.groupindex
}


def read_layout(folder: Path, name: str) -> Source:
    """Read a folder whose paths say class and person."""
    for layout in LAYOUTS[name]:
        source = _read(folder, layout)
        if source.samples:
            return source
    forms = " or ".join(layout.about for layout in LAYOUTS[name])
    raise PreparationError(
        f"--layout {name}: nothing in {folder} is named {forms}; a folder per class "
        "needs no --layout"
    )


def _read(folder: Path, layout: Layout) -> Source:
    source, others, seen = Source(), [], set()
    for path in (find_pictures if layout.pictures else find_videos)(folder):
        name = path.relative_to(folder).as_posix()
        match = layout.pattern.search(name)
        found = match.groupdict() if match else {}
        label = layout.label_of(folder, match) if match and layout.label_of else found.get("label")
        label = layout.names.get(label, None if layout.names else label)
        if label is None or (found.get("clip") or name) in seen:
            others.append(name)
            continue
        seen.add(found.get("clip") or name)
        part = PARTS.get(found.get("part") or "")
        source.samples.append(
            Sample(
                path=path, name=name, labels=(label,), where=str(path), part=part,
                subject=found.get("subject"),
            )
        )  # fmt: skip
    if source.samples:
        say(f"not {layout.about}, a copy, or without a label: not used", others)
    return source


# Where own files often say who is seen: the first part of their name, the folder they lie in.
GUESSES = (r"/([^/_\-. ]+)[_\- ][^/]*$", r"^[^/]+/([^/]+)/[^/]+$")
FEWEST_PEOPLE = 3


def guess_pattern(samples: Sequence[Sample]) -> str | None:
    """A pattern whose first group is likely to be the person, or None.

    People are taken for such if all samples have one, there are some, most have several samples,
    and most are seen in more than one class.
    """
    for text in [*(pattern.pattern for pattern in PEOPLE_IN_NAMES.values()), *GUESSES]:
        matches = [re.search(text, sample.name) for sample in samples]
        if not all(matches):
            continue
        clips = Counter(match[1] for match in matches)
        labels = {(match[1], sample.labels) for match, sample in zip(matches, samples)}
        several = Counter(person for person, _ in labels)
        often = [sum(n > 1 for n in counts.values()) for counts in (clips, several)]
        if len(clips) >= FEWEST_PEOPLE and min(often) > len(clips) / 2:
            return text
    return None

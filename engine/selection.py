"""Honest selection: what "best" is chosen on, how many labels train, classes that count alike.

The videos that decide which weights are best must not be those of the final numbers. Where a data
set has no validation part of its own, one is carved from the training part.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from svfap.datasets.files import write_text
from svfap.datasets.labels.annotations import Annotations
from svfap.datasets.labels.kinds import kind_of
from svfap.datasets.labels.splits import carve_validation, choose_share, take_rows
from svfap.datasets.tables import read_text
from svfap.engine.results.find import CARVED_FILE, LABELLED_FILE, SUBJECTS_FILE, subjects_of
from svfap.engine.setting import Setting

logger = logging.getLogger(__name__)

TEST_PART = "the test part"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The videos of a run."""

    train: Annotations
    val: Annotations | None  # for choosing weights, or None
    test: Annotations
    chosen_on: str  # what "best" is chosen on, in words; "nothing" without a validation part
    # rows of train.csv (0-based, without blank lines) that `val` consists of, if carved
    carved: tuple[int, ...] = ()
    share: str = ""  # how `train` was chosen by `--label_fraction`, in words; "" if it was not

    @property
    def val_is_test(self) -> bool:
        """Whether weights would be chosen on the videos of the final numbers."""
        return self.chosen_on == TEST_PART

    def describe_validation(self) -> str:
        """A line for the plan."""
        if self.val is None:
            return "none: no val.csv, so no best checkpoint (--val_fraction carves a part)"
        text = f"{len(self.val)} videos: {self.chosen_on}"
        if self.val_is_test:
            text += "; `best` would be chosen on test: report `last`, or use --val_fraction"
        return text

    def describe_training(self) -> str:
        """A line for the plan."""
        return f"{len(self.train)} videos" + (f": {self.share}" if self.share else "")

    def write_chosen(self, folder: Path) -> None:
        """Keep with the run which rows of train.csv were carved or chosen, where that was done."""
        lines = read_text(self.train.path).split("\n")
        rows = [line.rstrip() for line in lines if line.strip()]
        if self.carved:
            text = "\n".join(rows[row] for row in self.carved)
            write_text(folder / CARVED_FILE, text + "\n")
        if self.share:
            known = set(self.train.ids)
            text = "\n".join(row for row in rows if row.split(" ")[0] in known)
            write_text(folder / LABELLED_FILE, text + "\n")


def read_parts(setting: Setting) -> Parts:
    """Read the annotation files of a run; carve a validation part where asked and needed.

    Raises:
        ValueError: `--val_fraction`, `--label_fraction` or `--subjects` do not suit the data.
    """
    parts = _share(_with_validation(setting), setting)
    _warn_of(parts, setting)
    return parts


def _share(parts: Parts, setting: Setting) -> Parts:
    """Carry out `--label_fraction`."""
    fraction = setting.flags.label_fraction
    if fraction == 1:
        return parts
    subjects = known_subjects(setting, parts.train)
    taken = choose_share(
        _strata(parts.train),
        fraction,
        seed=setting.flags.seed,
        stream="labels",
        subjects=subjects,
        flag="--label_fraction",
    )
    share = f"{100 * fraction:g} % of {len(parts.train)}, {_how(setting, subjects)}"
    return replace(parts, train=take_rows(parts.train, np.flatnonzero(taken)), share=share)


def _warn_of(parts: Parts, setting: Setting) -> None:
    """Say what makes results too good, or classes impossible to learn."""
    shared = sorted(set(parts.train.paths) & set(parts.test.paths))
    if shared:
        logger.warning(
            "%d of %d test videos are in the training part, too, such as %s: results will be too "
            "good. `python -m svfap.preprocess.doctor %s` finds more of the kind",
            len(shared), len(parts.test), shared[0], setting.flags.data_path,
        )  # fmt: skip
    if kind_of(setting.kind).one_class:
        seen = set(np.asarray(parts.train.labels).tolist())
        absent = [
            name for label, name in enumerate(setting.labels.class_names) if label not in seen
        ]
        if absent:
            logger.warning("no training videos of %s, which cannot be learnt", ", ".join(absent))


def _strata(annotations: Annotations) -> list[str]:
    """What a share of the videos should keep in proportion: classes, where there are some."""
    if not kind_of(annotations.task).one_class:
        return ["any"] * len(annotations)
    return [str(label) for label in annotations.labels]


def _how(setting: Setting, subjects: list[str] | None) -> str:
    """How a share was chosen, in words."""
    if subjects:
        return "whole subjects"
    return "stratified" if kind_of(setting.kind).one_class else "at random"


def _with_validation(setting: Setting) -> Parts:
    flags = setting.flags
    train, val = setting.read("train"), setting.read("val")
    test = setting.read("test", flags.eval_data_path)
    chosen_on = "nothing"
    if val is not None:
        chosen_on = TEST_PART if set(val.ids) & set(test.ids) else "val.csv"
    if not flags.val_fraction:
        return Parts(train=train, val=val, test=test, chosen_on=chosen_on)
    if chosen_on == "val.csv":
        logger.warning("--val_fraction is not used: %s has a val.csv of its own", flags.data_path)
        return Parts(train=train, val=val, test=test, chosen_on=chosen_on)
    subjects = known_subjects(setting, train)
    labels = _strata(train)
    taken = np.array(
        carve_validation(labels, flags.val_fraction, seed=flags.seed, subjects=subjects)
    )
    return Parts(
        train=take_rows(train, np.flatnonzero(~taken)),
        val=take_rows(train, np.flatnonzero(taken)),
        test=test,
        chosen_on=f"{100 * flags.val_fraction:g} % of train.csv, {_how(setting, subjects)}",
        carved=tuple(np.flatnonzero(taken).tolist()),
    )


def known_subjects(setting: Setting, videos: Annotations) -> list[str] | None:
    """The person in each video, of `--subjects` or a subjects.csv beside the fold; or None.

    ValueError: `--subjects` does not name them all.
    """
    if setting.flags.subjects:
        return subjects_of(setting.flags.subjects, videos.ids)
    folder = Path(setting.flags.data_path)
    for path in (folder / SUBJECTS_FILE, folder.parent / SUBJECTS_FILE):
        if path.is_file():
            try:
                return subjects_of(path, videos.ids)
            except ValueError as error:
                logger.warning("subjects are not used: %s", error)
    return None


def balanced_class_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """A weight per class that makes all classes weigh alike.

    Args:
        labels: (n,) class of each training video.

    Returns:
        (num_classes,) n / (classes present * videos of the class); its mean over the videos is 1.
        Classes without videos get 0.
    """
    counts = np.bincount(labels, minlength=num_classes)
    present = counts > 0
    weights = np.zeros(num_classes)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights


def balance_classes(setting: Setting, train: Annotations) -> np.ndarray | None:
    """Carry out `--class_balanced`: the task gets class weights with "loss".

    With "sampler" the (n,) weights of the videos for `EpochSampler`, else None.
    """
    how = setting.flags.class_balanced
    if how == "none":
        return None
    if not kind_of(setting.kind).one_class:
        raise ValueError(
            f"--class_balanced {how}: {setting.kind} has no classes to balance; leave it out"
        )
    weights = balanced_class_weights(train.labels, setting.task.num_outputs)
    if how == "sampler":
        return weights[train.labels]
    device = setting.workers.device
    setting.task.balance(torch.as_tensor(weights, dtype=torch.float32, device=device))
    return None

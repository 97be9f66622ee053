"""What labels mean, by the flags of fine-tuning and what stands beside the annotation files."""

import argparse
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.labels.classes import LabelNames, read_classes


def named_labels(flags: argparse.Namespace, folder: str | Path) -> LabelNames | None:
    """What the annotation files of a folder mean: by what stands beside them, or `--data_set`."""
    beside = read_classes(folder)
    spec = get_spec(flags.data_set) if flags.data_set else None
    if not (spec and spec.class_names):
        return beside
    stated = LabelNames(task=spec.task, class_names=spec.class_names)
    if beside and str(folder) == str(flags.data_path) and beside.meaning != stated.meaning:
        raise ValueError(
            f"{folder}/classes.json is for {beside.task} ({', '.join(beside.class_names)}), "
            f"--data_set {spec.name} is {spec.task} ({', '.join(spec.class_names)}); use "
            "--data_set custom, or leave it out"
        )
    return beside or stated


def labels_of(
    flags: argparse.Namespace, known: LabelNames | None = None, checkpoint: str = ""
) -> LabelNames:
    """What the model's outputs mean: as the checkpoint says, else as the data, or numbers.

    Args:
        known: what an evaluated checkpoint says.
        checkpoint: where it is; "" without one.

    Raises:
        ValueError: the number of classes is unknown, or two sources of it contradict each other.
    """
    if known and not known.numbered:
        labels, source = known, checkpoint
    else:
        folder = (checkpoint and flags.eval_data_path) or flags.data_path
        labels, source = named_labels(flags, folder), flags.data_set or f"{folder}/classes.json"
    if labels is None and flags.nb_classes:
        return LabelNames.of_numbers(flags.nb_classes)
    labels = labels or known
    if labels is None:
        raise ValueError(
            "the number of classes is unknown: give --nb_classes, a --data_set of the catalogue, "
            f"or put a classes.json into {flags.data_path}"
        )
    names = labels.output_names
    if flags.nb_classes not in (None, len(names)):
        raise ValueError(
            f"--nb_classes {flags.nb_classes}: {source} has {len(names)} ({', '.join(names)}); "
            "leave --nb_classes out, or use --data_set custom for other labels"
        )
    return labels

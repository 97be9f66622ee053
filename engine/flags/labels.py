"""What labels mean, by the flags of fine-tuning and what stands beside the annotation files."""

from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.labels.classes import LabelNames, read_classes


def named_labels(folder: str | Path, data_set: str | None, *, own: bool) -> LabelNames | None:
    """What the annotation files of a folder mean: by what stands beside them, or `--data_set`.

    `own` ones are those of `--data_path`, which may not contradict `--data_set`.
    """
    beside = read_classes(folder)
    spec = get_spec(data_set) if data_set else None
    if not (spec and spec.class_names):
        return beside
    stated = LabelNames(task=spec.task, class_names=spec.class_names)
    if beside and own and beside.meaning != stated.meaning:
        raise ValueError(
            f"{folder}/classes.json is for {beside.task} ({', '.join(beside.class_names)}), "
            f"--data_set {spec.name} is {spec.task} ({', '.join(spec.class_names)}); use "
            "--data_set custom, or leave it out"
        )
    return beside or stated


def labels_of(
    data_path: str,
    eval_data_path: str | None,
    data_set: str | None,
    nb_classes: int | None,
    *,
    known: LabelNames | None = None,
    checkpoint: str = "",
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
        folder = (checkpoint and eval_data_path) or data_path
        labels = named_labels(folder, data_set, own=folder == data_path)
        source = data_set or f"{folder}/classes.json"
    if labels is None and nb_classes:
        return LabelNames.of_numbers(nb_classes)
    labels = labels or known
    if labels is None:
        raise ValueError(
            "the number of classes is unknown: give --nb_classes, a --data_set of the catalogue, "
            f"or put a classes.json into {data_path}"
        )
    names = labels.output_names
    if nb_classes not in (None, len(names)):
        raise ValueError(
            f"--nb_classes {nb_classes}: {source} has {len(names)} ({', '.join(names)}); "
            "leave --nb_classes out, or use --data_set custom for other labels"
        )
    return labels

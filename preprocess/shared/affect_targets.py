"""Expression, valence and arousal as tasks: what AffectNet and the drawn faces become."""

from collections.abc import Sequence

from svfap.datasets.labels.classes import LabelNames

DIMENSIONS = ("valence", "arousal")


def affect_targets(
    class_names: Sequence[str], data_set: str | None = None
) -> dict[str, tuple[LabelNames, str]]:
    """A folder of CSVs for the class, for the values, and for both by one model.

    Returns:
        By folder: what classes.json says, and the label of a line, with {expression} for the
        number of the class and {affect} for valence and arousal.
    """
    classes = tuple(class_names)
    both = ("expression", *DIMENSIONS)
    return {
        "expression": (
            LabelNames(task="classification", class_names=classes, data_set=data_set),
            "{expression}",
        ),
        "valence_arousal": (
            LabelNames(task="regression", class_names=DIMENSIONS, data_set=data_set),
            "{affect}",
        ),
        "both": (
            LabelNames(
                task="class_and_values",
                class_names=both,
                heads={"expression": classes},
                data_set=data_set,
            ),
            "{expression} {affect}",
        ),
    }

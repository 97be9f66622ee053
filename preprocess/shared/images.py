"""Images laid out as one folder per class."""

from collections.abc import Mapping
from pathlib import Path

from svfap.datasets.labels.listing import Unused, is_of_system
from svfap.preprocess.shared.labelled import Clip, Found, find_images


def read_class_folders(folder: Path, labels: Mapping[str, int], found: Found) -> list[Clip]:
    """Images of one part laid out as one folder per class.

    Args:
        labels: label by name of the class folder.
        found: gets problems (folders that are no class), missing folders and extra images.
    """
    if not folder.is_dir():
        found.missing.append(f"folder {folder}")
        return []
    clips, unused = [], Unused(folder)
    for entry in sorted(folder.iterdir()):
        if is_of_system(entry.name):
            unused.add("hidden files or files of the system", entry)
        elif not entry.is_dir():
            found.extra.append(f"{entry} (beside the class folders)")
        elif entry.name not in labels:
            known = ", ".join(labels)
            found.problems.add(f"{entry}: class folder {entry.name!r} is none of {known}")
        else:
            label = str(labels[entry.name])
            clips += [Clip(path=path, label=label) for path in find_images(entry)]
    unused.tell()
    for name in labels:
        if not (folder / name).is_dir():
            found.missing.append(f"folder {folder / name}")
    return clips

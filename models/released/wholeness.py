"""Is a file of weights complete? Found out without reading a single object in it."""

import json
import zipfile
from pathlib import Path

from models.weights import check_is_binary

WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
_PICKLE = b"\x80"


def check_whole(path: Path, suffix: str) -> None:
    """Check a file as far as its format allows.

    `torch.save` writes zip archives, whose every member has a checksum; safetensors state all
    sizes in front. Files of PyTorch before 1.6 are only seen to be pickles, others to be no web
    page.

    Args:
        path: the file.
        suffix: what the file will be called at the end, with the dot.

    Raises:
        ValueError: says what is wrong.
    """
    check_is_binary(path)
    if suffix == ".safetensors":
        _check_safetensors(path)
    elif suffix in WEIGHT_SUFFIXES:
        _check_torch(path)


def _check_torch(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(4)
    if start[:1] == _PICKLE:
        return
    if start != b"PK\x03\x04":
        raise ValueError(f"{path.name} does not begin like a file of torch.save")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise ValueError(f"{path.name} is cut off or damaged: {error}") from error
    if damaged:
        raise ValueError(f"{path.name} is damaged: {damaged} has another checksum")


def _check_safetensors(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise ValueError(f"{path.name} is cut off in its header")
        try:
            header = json.loads(file.read(length))
            entries = (entry for name, entry in header.items() if name != "__metadata__")
            end = 8 + length + max((entry["data_offsets"][1] for entry in entries), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"{path.name} has no readable header of safetensors") from error
    if end != size:
        raise ValueError(f"{path.name} has {size:,} bytes, its header describes {end:,}")

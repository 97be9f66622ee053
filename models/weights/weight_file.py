"""Files of weights: read without executing anything in them, and only if they are whole.

A file of `torch.save` is a zip archive, whose every member has a checksum. Safetensors have none;
files that `models.convert` writes carry one in their header.
"""

import argparse
import hashlib
import io
import json
import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from svfap.models.weights.hub import SAFETENSORS, WEIGHT_SUFFIXES, first_line, locate

# What `models.convert` writes into the header of a safetensors file, each as JSON.
HEADER_FACTS = (
    *("model_config", "class_names", "task", "heads", "flags"),
    *("chosen_on", "is_best", "clips"),
)
CHOSEN = "chosen_weights"  # in a checkpoint: which of its weights its scores are of
BEST = "checkpoint-best.pth"
_CHECKSUM = "crc32"
_LONGEST_DESCRIPTION = 1 << 20  # bytes
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
# Numbers of numpy are plain values, too; arrays, structures and objects are not.
_NUMPY_TYPES = [np.dtype(code) for code in "?bhilqBHILQefdgFDGSUmM"]


def read_checkpoint(source: str | Path) -> dict:
    """Read a checkpoint file without executing anything in it.

    Args:
        source: see `models.weights.hub.locate`: the path of a .safetensors or of a file of
            `torch.save` (any ending), hf://owner/repo, or a name of a catalogue.

    Returns:
        What the file holds; tensors are on the CPU. Of a safetensors file: its tensors, and if
        `models.convert` wrote it they are under "model", beside what its header says.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not to be had from the Hub, or not a checkpoint: HTML page, Git LFS pointer,
            empty, cut off, changed since it was written, or a pickle with anything but tensors,
            plain containers, numbers (numpy's, too) and argparse.Namespace.
    """
    path = locate(source).path
    check_whole(path)
    try:
        if path.suffix == SAFETENSORS:
            return _read_safetensors(path)
        with torch.serialization.safe_globals(_plain_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        start = path.read_bytes()[:80]
        if start.isascii() and start.decode().replace("\n", " ").replace("\r", " ").isprintable():
            raise ValueError(
                f"{path} is text, no file of weights; give checkpoint-*.pth of a run, or the file "
                "that weights came in"
            ) from None
        asked = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"{path} was refused, nothing in it was executed: it is damaged, or holds Python "
            "objects other than tensors, plain containers, numbers and argparse.Namespace"
            f"{f', namely {asked[1]}' if asked else ''}. Take another copy, or get a file whose "
            f"weights are plain tensors. ({first_line(error)})"
        ) from error
    except Exception as error:  # on damaged bytes the readers fail in many ways
        raise _damaged(path, error) from error
    return _with_choice(content, path)


def read_described(path: Path) -> dict:
    """Read a checkpoint file, and what transformers writes beside one.

    As `read_checkpoint`; with a description beside it the tensors are under "model", and under
    "hf_config" and "hf_preprocessor" is what config.json and preprocessor_config.json say.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: see `read_checkpoint`; or a description is not JSON.
    """
    content = read_checkpoint(path)
    if not isinstance(content, dict) or "model_config" in content:
        return content
    about = _description(path.with_name("config.json"))
    if not about.keys() & {"model_type", "model_config"}:
        return content
    content = content if content.keys() & {"model", "module", "state_dict"} else {"model": content}
    pixels = _description(path.with_name("preprocessor_config.json"))
    return {**content, "hf_config": about, "hf_preprocessor": pixels}


def _description(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _LONGEST_DESCRIPTION:
            raise ValueError("it is too long")
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} does not describe weights: {first_line(error)}") from error
    return content if isinstance(content, dict) else {}


def check_whole(path: Path, suffix: str | None = None) -> None:
    """Check a file as far as its format allows, without reading a single object in it.

    Files of PyTorch before 1.6, or written so on demand, have no checksums; of the safetensors
    format only the sizes are checked here, a checksum when they are read. `suffix` is what the file
    will be called at the end, with the dot. ValueError says what is wrong.
    """
    check_is_binary(path)
    suffix = path.suffix if suffix is None else suffix
    with path.open("rb") as file:
        start = file.read(len(_ZIP))
    if suffix == SAFETENSORS:
        _check_sizes(path)
    elif start == _ZIP:
        _check_members(path)
    elif suffix in WEIGHT_SUFFIXES and start[:1] != _PICKLE:
        raise ValueError(
            f"{path} is cut off or no file of weights: it does not begin like one of torch.save. "
            "Take another copy."
        )


def check_is_binary(path: Path) -> None:
    """Raise ValueError for an empty file, an HTML page or a Git LFS pointer."""
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        raise ValueError(f"{path} is empty. Take another copy.")
    if start[:1] == b"<":
        raise ValueError(
            f"{path} is an HTML page, not weights: the download link led to a log-in, expiry or "
            "warning page. Open the link in a browser, or get the file from another place."
        )
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a Git LFS pointer, not weights. Run `git lfs pull` there.")


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping) -> None:
    """Write tensors, and facts of `HEADER_FACTS` with a checksum of both in the header."""
    header = {name: json.dumps(value, default=str) for name, value in facts.items()}
    header[_CHECKSUM] = str(_checksum(tensors, header))
    safetensors.torch.save_file(dict(tensors), path, metadata=header)


def _read_safetensors(path: Path) -> dict:
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        header = dict(file.metadata() or {})
    stated = header.pop(_CHECKSUM, None)
    if stated is not None and stated != str(_checksum(tensors, header)):
        raise ValueError("its checksum is another one")
    facts = {name: json.loads(header[name]) for name in HEADER_FACTS if name in header}
    return {"model": tensors, **facts} if facts else tensors


def _checksum(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> int:
    """CRC-32 over names, kinds and values of tensors and over the texts of a header."""
    found = 0
    for name, text in sorted(header.items()):
        found = zlib.crc32(f"{name}\0{text}\0".encode(), found)
    for name, value in sorted(tensors.items()):
        found = zlib.crc32(f"{name}\0{value.dtype}{tuple(value.shape)}\0".encode(), found)
        flat = value.detach().contiguous().flatten()
        if flat.numel():
            found = zlib.crc32(flat.view(torch.uint8).numpy(), found)
    return found


def _check_members(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            # PyTorch can be told to write none (torch.serialization.set_crc32_options)
            checked = any(member.CRC for member in archive.infolist())
            damaged = archive.testzip() if checked else None
    except Exception as error:  # nonsense in a member's header fails in many ways
        raise _damaged(path, error) from error
    if damaged:
        raise _damaged(path, f"{damaged} has another checksum")


def _check_sizes(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise _damaged(path, "its header is longer than the file")
        try:
            header = json.load(io.BytesIO(file.read(length)))
            entries = (entry for name, entry in header.items() if name != "__metadata__")
            end = 8 + length + max((entry["data_offsets"][1] for entry in entries), default=0)
        except Exception as error:
            raise _damaged(path, "no readable header of safetensors") from error
    if end != size:
        raise _damaged(path, f"its header describes {end:,} bytes")


def _plain_globals() -> list:
    """What a pickle of weights may ask for by name, beyond tensors and plain containers."""
    scalar = np.float64(0).__reduce__()[0]
    scalars = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [argparse.Namespace, np.dtype, *scalars, *{type(kind) for kind in _NUMPY_TYPES}]


def _with_choice(content: object, path: Path) -> object:
    """Say of checkpoints from before they did it themselves which weights were chosen."""
    if isinstance(content, dict) and "position" in content and CHOSEN not in content:
        content["is_best"] = path.name == BEST
        ema = content["is_best"] or content.get("flags", {}).get("test_weights") == "ema"
        content[CHOSEN] = "model_ema" if ema and content.get("model_ema") else "model"
    return content


def _damaged(path: Path, why: object) -> ValueError:
    return ValueError(
        f"{path} ({path.stat().st_size:,} bytes) is cut off or damaged: it is not as it was "
        f"written. Take another copy and compare its size or checksum. ({first_line(why)})"
    )

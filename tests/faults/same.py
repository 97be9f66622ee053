"""What two files or folders hold, without times, hosts and process numbers."""

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path

import numpy as np
import torch

# Of log lines, checkpoints, journals and config.json: what differs between two undisturbed runs.
TIMES = frozenset(
    ("saved_at", "seconds", "clips_per_second", "data_wait", "memory_gib", "command", "commit")
)
BESIDE = ".said.log"  # beside a folder: what the command said
NOT_COMPARED = ("events*", "*.log", ".*", "curves.png", "*.pdf", "report.html")  # of times, too


def plain(value: object) -> object:
    """Tensors and arrays as bytes, mappings without times; can be compared with ==."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items() if key not in TIMES}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    return "nan" if value != value else value


def content(path: Path) -> object:
    """What a file holds."""
    if path.suffix == ".pth":
        return plain(torch.load(path, weights_only=True))
    if path.suffix == ".jsonl":  # a line torn by a kill stays in a journal; readers leave it out
        entries = map(_entry, path.read_bytes().splitlines())
        entries = [plain(entry) for entry in entries if entry is not None]
        return {str(entry.get("source", entry)): entry for entry in entries}  # the last one counts
    if path.suffix == ".json":
        return plain(json.loads(path.read_bytes()))
    return path.read_bytes()


def _entry(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None


def differences(one: Path, other: Path) -> list[str]:
    """Names of the files that differ, or are in one folder only."""
    names = [
        {
            path.relative_to(folder)
            for path in folder.rglob("*")
            if path.is_file()
            and not any(part.match(p) for part in _parts(path, folder) for p in NOT_COMPARED)
        }
        for folder in (one, other)
    ]
    lone = [f"{name} is in one only" for name in sorted(names[0] ^ names[1])]
    both = sorted(names[0] & names[1])
    return lone + [str(name) for name in both if content(one / name) != content(other / name)]


def _parts(path: Path, folder: Path) -> list[Path]:
    return [Path(part) for part in path.relative_to(folder).parts]

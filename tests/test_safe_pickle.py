"""Pickles of scores: plain ones come back equal, others are refused and run nothing."""

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from svfap.preprocess.shared.safe_pickle import UnsafePickleError, load_plain_pickle
from tests.hostile import Hostile


def hostile_pickles(marker: Path) -> dict[str, bytes]:
    command = f"touch {marker}".encode()
    return {
        "reduce": pickle.dumps({"openness": Hostile(marker)}),
        "protocol 0": pickle.dumps([Hostile(marker)], protocol=0),
        "builtins": b"cbuiltins\neval\n(S'open(%r, \"w\")'\ntR." % str(marker).encode(),
        "python 2": b"c__builtin__\nexec\n(S'1'\ntR.",
        "inst": b"(S'" + command + b"'\nios\nsystem\n.",
        "dotted": b"\x80\x04\x8c\x0bcollections\x8c\x19OrderedDict.fromkeys.__self\x93.",
        "attribute": b"\x80\x04\x8c\x08builtins\x8c\x0cdict.__class__\x93.",
        "getattr": b"cbuiltins\ngetattr\n(cbuiltins\ndict\nS'x'\ntR.",
        "persistent": b"Pos\n.",
        "object type": b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
        "array": pickle.dumps(np.arange(3)),
        "change a function": b"cnumpy.core.multiarray\nscalar\n(NS'x'\nI1\nsS'__doc__'\ntb.",
        "table": b"\x80\x02Nr\xff\xff\xff\x7f.",
        "copies": b"\x80\x02cbuiltins\nset\nq\x00"
        + pickle.dumps(list(range(9999)), 2)[2:-1]
        + b"q\x01"
        + b"h\x00h\x01\x85R0" * 999
        + b"N.",
        "texts": b"\x80\x02c_codecs\nencode\nq\x00X"
        + (9999).to_bytes(4, "little")
        + b"x" * 9999
        + b"q\x01"
        + b"h\x00h\x01\x85R0" * 999
        + b"N.",
        "instructions": b"\x80\x04" + b"]" * 1_100_000 + b".",
        "nested": b"\x80\x04}N" + b"\x85" * 1_000_000 + b"K\x01s.",
        "length": b"\x80\x05\x96" + (2**60).to_bytes(8, "little") + b"x.",
        "truncated": pickle.dumps({"a": 1.5})[:-3],
        "text": b"these are not pickled scores",
    }


@pytest.mark.parametrize("kind", list(hostile_pickles(Path("x"))))
def test_hostile_pickles_are_refused_and_run_nothing(tmp_path, kind):
    marker = tmp_path / "ran"
    path = tmp_path / "annotation_training.pkl"
    path.write_bytes(hostile_pickles(marker)[kind])
    with pytest.raises(UnsafePickleError, match=r"annotation_training\.pkl"):
        load_plain_pickle(path)
    assert not marker.exists()


def test_pickles_take_no_more_memory_than_a_few_of_their_sizes(tmp_path):
    path = tmp_path / "annotation_training.pkl"
    for kind in ("table", "copies", "texts", "nested", "length"):
        path.write_bytes(hostile_pickles(tmp_path)[kind])
        tracemalloc.start()
        with pytest.raises(UnsafePickleError):
            load_plain_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < 100e6, kind
        tracemalloc.stop()


def test_the_hostile_pickle_would_have_run(tmp_path):
    marker = tmp_path / "ran"
    pickle.loads(hostile_pickles(marker)["reduce"])
    assert marker.exists()


def test_plain_pickles_come_back_equal(tmp_path):
    path = tmp_path / "plain.pkl"
    content = {"a": [1, 2.5, "é", None, True], "b": {"c": (1, b"raw")}}
    for protocol in range(6):
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        assert load_plain_pickle(path) == content
    numbers = {np.dtype(kind).name: np.dtype(kind).type(3) for kind in ("f4", "f8", "i4", "u1")}
    path.write_bytes(pickle.dumps(numbers))
    assert load_plain_pickle(path) == {"float32": 3, "float64": 3, "int32": 3, "uint8": 3}
    path.write_bytes(pickle.dumps(np.dtype(">f8").type(0.1)))
    assert load_plain_pickle(path) == 0.1

"""Files that are whole or not there; arrays of npz files."""

import numpy as np
import pytest

from datasets.files import TEMPORARY, read_arrays, replacing


def test_a_file_is_replaced_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "list.txt"
    with replacing(path) as temporary:
        temporary.write_text("old")
        assert not path.exists()
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_folder_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "clips" / "1"
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "1.jpg").write_bytes(b"1")
        assert list(path.parent.glob(TEMPORARY)) == [temporary]
        raise RuntimeError
    assert not list(path.parent.iterdir())
    with replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "1.jpg").write_bytes(b"1")
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path] and list(path.iterdir()) == [path / "1.jpg"]


def test_arrays_of_an_npz_file(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, one=np.arange(3), two=np.ones(2), three=np.zeros(1))
    arrays = read_arrays(path, ["two", "one"], optional=["four", "three"])
    assert list(arrays) == ["two", "one", "three"] and arrays["one"].tolist() == [0, 1, 2]
    with pytest.raises(LookupError, match="a.npz holds the arrays one, two, three, not four"):
        read_arrays(path, ["four"])
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npz", ["one"])


def damaged(path):
    """Compressed arrays with one byte of their content changed."""
    np.savez_compressed(path, one=np.random.default_rng(0).normal(size=500))
    content = bytearray(path.read_bytes())
    content[600] ^= 255
    return bytes(content)


def plain(path):
    np.save(path.with_suffix(".npy"), np.arange(3))
    return path.with_suffix(".npy").read_bytes()


def pickled(path):
    np.savez(path, one=np.array([{}]))
    return path.read_bytes()


@pytest.mark.parametrize(
    "content", [lambda _: b"", lambda _: b"text", lambda _: b"PK\x03\x04", damaged, plain, pickled]
)
def test_what_is_no_npz_file_of_plain_arrays(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content(path))
    with pytest.raises(ValueError, match="a.npz is not an npz file of plain arrays"):
        read_arrays(path, ["one"])

"""Tables of other programs: encodings, separators, spellings of names."""

import csv
import os
import unicodedata
from pathlib import Path

import pytest

from svfap.datasets import tables
from svfap.datasets.labels.annotations import AnnotationError, read_annotations
from svfap.datasets.labels.classes import read_classes
from svfap.datasets.labels.listing import list_videos
from svfap.engine.results.find import subjects_of
from svfap.preprocess import custom
from svfap.preprocess.shared import common
from tests.lab_trees import touch

ROWS = ["path{0}label{0}subject"] + [
    f"clips/{n}.mp4{{0}}{('fröhlich', 'traurig')[n % 2]}{{0}}müller{n // 2}" for n in range(6)
]
WRITTEN = {
    "commas": (",", "utf-8", ""),
    "semicolons with a mark": (";", "utf-8-sig", ""),
    "a line that names the separator": (";", "utf-8-sig", "sep=;\r\n"),
    "an unusual separator": ("|", "utf-8", '"sep=|"\n'),
    "utf-16 with tabs": ("\t", "utf-16", ""),
    "utf-16 without a mark": ("\t", "utf-16-le", ""),
    "utf-16 of the other order": (";", "utf-16-be", ""),
    "windows-1252": (";", "cp1252", ""),
}


def write_table(path: Path, kind: str, end: str = "\r\n") -> Path:
    separator, encoding, top = WRITTEN[kind]
    text = top + "".join(row.format(separator) + end for row in ROWS)
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("kind", WRITTEN)
def test_tables_of_spreadsheets_mean_the_same(tmp_path, kind):
    for n in range(6):
        touch(tmp_path / "clips" / f"{n}.mp4")
    table = write_table(tmp_path / "table.csv", kind)
    custom.main([str(table), "--output_dir", str(tmp_path / "o"), "--num_folds", "3"])
    assert read_classes(tmp_path / "o/split01").class_names == ("fröhlich", "traurig")
    with (tmp_path / "o/subjects.csv").open(encoding="utf-8") as file:
        assert {row["subject"] for row in csv.DictReader(file)} == {f"müller{n}" for n in range(3)}
    found = common.read_table(table, ("label",))
    first = 2 + bool(WRITTEN[kind][2])
    assert [line for line, _ in found] == list(range(first, first + 6))


def test_empty_cells_at_the_ends_of_lines_are_no_columns(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("path;label;;\na.mp4;x;;\n;;;\nb.mp4;y;;\n")
    assert tables.read_table(path) == [
        (2, {"path": "a.mp4", "label": "x"}), (4, {"path": "b.mp4", "label": "y"})]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the table is empty"),
        (b"path,path\na,b\n", "columns \\['path'\\] stand in its header twice"),
        (b'path,label\na,"b\nc,d\n', "cannot be read behind line"),
        ("path,label\n".encode("utf-16")[:-1], "cannot be read"),
    ],
)
def test_tables_that_are_none_are_named(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(tables.TableError, match=message) as caught:
        tables.read_table(path)
    assert str(path) in str(caught.value)


def test_annotation_files_in_utf_16(tmp_path):
    touch(tmp_path / "a.mp4")
    path = tmp_path / "train.csv"
    path.write_bytes("a.mp4 1\r\n".encode("utf-16"))
    assert list(read_annotations(path, task="classification").ids) == ["a.mp4"]


@pytest.mark.parametrize("disk", ["NFD", "NFC", "latin-1"])
def test_names_of_files_are_found_in_any_spelling(tmp_path, disk):
    """A table names café.mp4 in one form, the disk has it in another."""
    for n in range(6):
        name = f"café{n}.mp4"
        if disk == "latin-1":
            name = os.fsdecode(name.encode(disk))
        else:
            name = unicodedata.normalize(disk, name)
        touch(tmp_path / "clips" / name)
    for form in ("NFC", "NFD"):
        text = "path,label\n" + "".join(f"clips/café{n}.mp4,{'ab'[n % 2]}\n" for n in range(6))
        (tmp_path / "t.csv").write_text(unicodedata.normalize(form, text))
        custom.main([str(tmp_path / "t.csv"), "--output_dir", str(tmp_path / "o")])
        raw = (tmp_path / "o/train.csv").read_bytes().split(b" ")[0]
        assert os.path.exists(raw)
    other = unicodedata.normalize("NFC" if disk == "NFD" else "NFD", "café0.mp4")
    for start in (f"{tmp_path}/clips", "clips"):
        (tmp_path / "by_hand.csv").write_text(f"{start}/{other} 0\n")
        rows = read_annotations(tmp_path / "by_hand.csv", task="classification")
        assert os.path.exists(rows.paths[0])
        assert rows.ids[0] == f"{start}/{other}"
        (video,) = list_videos([tmp_path / "clips" / other])
        assert os.path.exists(video.source)
    (tmp_path / "by_hand.csv").write_text(f"{tmp_path}/clips/thé.mp4 0\n")
    with pytest.raises(AnnotationError, match="path does not exist"):
        read_annotations(tmp_path / "by_hand.csv", task="classification")


def test_subjects_are_found_in_any_spelling(tmp_path):
    path = tmp_path / "subjects.csv"
    path.write_text(unicodedata.normalize("NFD", "path,subject\ncafé.mp4,anna\n"))
    assert subjects_of(path, [unicodedata.normalize("NFC", "x/café.mp4")]) == ["anna"]
    path.write_bytes("path;subject\r\ncafé.mp4;anna\r\n".encode("cp1252"))
    assert subjects_of(path, ["x/café.mp4", os.fsdecode(b"y/caf\xe9.mp4")]) == ["anna", "anna"]

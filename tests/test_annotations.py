import os

import numpy as np
import pytest

from svfap.datasets.catalog import SPECS, get_spec, spec_for_csv
from svfap.datasets.labels.annotations import (
    AnnotationError,
    PathColumn,
    read_annotations,
    write_annotations,
)
from svfap.datasets.labels.classes import LabelNames, read_classes, write_classes


def write(path, text):
    path.write_text(text)
    return path


def problems_of(path, **options):
    with pytest.raises(AnnotationError) as caught:
        read_annotations(path, **options)
    return caught.value


@pytest.fixture
def videos(tmp_path):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).touch()
    return tmp_path


def test_classification_file(videos):
    csv = write(videos / "train.csv", "\ufeffa.mp4 0\r\nb.mp4 6\r\n\nc.mp4 3")
    rows = read_annotations(csv, task="classification", names="abcdefg", data_root=videos)
    assert list(rows.ids) == ["a.mp4", "b.mp4", "c.mp4"]
    assert list(rows.paths) == [str(videos / name) for name in ("a.mp4", "b.mp4", "c.mp4")]
    assert rows.labels.dtype == np.int64 and rows.labels.tolist() == [0, 6, 3]
    assert len(rows) == 3 and rows.paths[-1] == str(videos / "c.mp4")


def test_regression_and_pretraining_files(videos):
    csv = write(videos / "r.csv", f"{videos}/a.mp4 0.5 -1\n{videos}/b.mp4 1e-1 2\n")
    rows = read_annotations(csv, task="regression", names="va")
    assert rows.labels.dtype == np.float32
    assert np.array_equal(rows.labels, np.array([[0.5, -1], [0.1, 2]], np.float32))
    csv = write(videos / "p.csv", f"{videos}/a.mp4 0\n{videos}/b.mp4 0 -1\n{videos}/c.mp4\n")
    rows = read_annotations(csv, task="pretrain")
    assert rows.labels.tolist() == [0, 0, 0]


def test_all_problems_come_together_with_line_numbers(videos):
    csv = write(
        videos / "bad.csv",
        "a.mp4 0\n"
        "b.mp4\n"  # no label
        "c c.mp4 1\n"  # a space in the path
        "b.mp4,3\n"  # another separator
        "a.mp4 1\n"  # twice
        "c.mp4 7\n"  # out of range
        "missing.mp4 2\n"
        "d.mp4 -1\n"
        "b.mp4 2.0\n"
        "b.mp4 2\n",
    )
    error = problems_of(csv, task="classification", names="abcdefg", data_root=videos)
    text = {}
    for line, problem in error.problems:
        text.setdefault(line, []).append(problem)
    assert sorted(text) == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert "found 1 column in 'b.mp4'" in text[2][0]
    assert "found 3 columns in 'c c.mp4 1'" in text[3][0] and "rename" in text[3][0]
    assert "found 1 column in 'b.mp4,3'" in text[4][0]
    assert text[5] == ["duplicate of line 1: a.mp4"]
    assert text[6] == ["label 7 is out of range; allowed are 0 to 6"]
    assert "path does not exist: missing.mp4" in text[7][0] and str(videos) in text[7][0]
    assert text[8][0] == "label -1 is out of range; allowed are 0 to 6"
    assert "path does not exist" in text[8][1]
    assert text[9] == ["label '2.0' is not a whole number; classes are numbered from 0"]
    assert text[10] == ["duplicate of line 9: b.mp4"]
    assert [len(text[line]) for line in (2, 3, 4)] == [1, 1, 1]
    message = str(error)
    assert message.startswith(f"{csv}: ") and "  line 6: label 7" in message


def test_regression_labels_must_be_finite(videos):
    csv = write(videos / "r.csv", "a.mp4 0.5 1\nb.mp4 nan 1\nc.mp4 1 inf\nd.mp4 1\ne.mp4 x 1\n")
    error = problems_of(csv, task="regression", names="va", data_root=videos, check_paths=False)
    assert error.problems == [
        (2, "label 'nan' is not a finite number"),
        (3, "label 'inf' is not a finite number"),
        (4, error.problems[2][1]),
        (5, "label 'x' is not a finite number"),
    ]
    assert "expected 'path' and 2 labels, found 2 columns" in error.problems[2][1]


def test_long_reports_are_cut(videos):
    csv = write(videos / "long.csv", "".join(f"no{i}.mp4 0\n" for i in range(150)))
    error = problems_of(csv, task="pretrain", data_root=videos)
    assert len(error.problems) == 150
    assert "150 problems" in str(error) and str(error).endswith("... and 50 more")


def test_empty_and_absent_files(tmp_path):
    error = problems_of(write(tmp_path / "e.csv", "\n \n"), task="pretrain")
    assert "empty" in str(error)
    with pytest.raises(FileNotFoundError, match="none.csv"):
        read_annotations(tmp_path / "none.csv", task="pretrain")
    with pytest.raises(ValueError, match="choose pretrain, classification, regression"):
        read_annotations(tmp_path / "e.csv", task="ranking")
    with pytest.raises(ValueError, match="check_paths"):
        read_annotations(tmp_path / "e.csv", task="pretrain", check_paths="some")


def test_relative_paths(videos, monkeypatch):
    folder = videos / "lists"
    folder.mkdir()
    csv = write(folder / "l.csv", "a.mp4 0\nb.mp4 0\n")
    monkeypatch.chdir(videos)
    assert list(read_annotations(csv, task="pretrain").paths) == ["a.mp4", "b.mp4"]
    for name in ("a.mp4", "b.mp4"):
        os.rename(videos / name, folder / name)
    assert list(read_annotations(csv, task="pretrain").paths) == [
        str(folder / "a.mp4"),
        str(folder / "b.mp4"),
    ]
    error = problems_of(csv, task="pretrain", data_root="elsewhere")
    assert "looked in elsewhere; --data_root" in str(error)


def test_a_sample_of_paths_can_be_checked(videos):
    csv = write(videos / "s.csv", "".join(f"no{i}.mp4 0\n" for i in range(2500)))
    assert len(problems_of(csv, task="pretrain", check_paths="sample").problems) == 1000
    assert len(read_annotations(csv, task="pretrain", check_paths=False)) == 2500


def test_path_column_behaves_like_a_list():
    values = ["", "ä b", "/x/y", "c\udcff"]
    column = PathColumn(values)
    assert list(column) == values and column == values and len(column) == 4
    assert column[-1] == values[-1] and column[1:3] == values[1:3]
    assert list(column.under("/r")) == ["/r/", "/r/ä b", "/x/y", "/r/c\udcff"]
    with pytest.raises(IndexError):
        column[4]


def test_writing_is_atomic_and_readable(tmp_path):
    csv = tmp_path / "deep" / "out.csv"
    assert write_annotations(csv, [("x/a.mp4", 3), ("b", 0)]) == 2
    assert csv.read_text() == "x/a.mp4 3\nb 0\n"
    rows = [("v", 0.25, -1.5)]
    write_annotations(csv, rows)
    read = read_annotations(csv, task="regression", check_paths=False)
    assert read.labels.tolist() == [[0.25, -1.5]]
    for bad in (["a b.mp4", 0], ["", 0]):
        with pytest.raises(ValueError, match="white space"):
            write_annotations(csv, [bad])
    with pytest.raises(ValueError, match="no rows"):
        write_annotations(csv, [])
    assert csv.read_text() == "v 0.25 -1.5\n"
    assert [path.name for path in csv.parent.iterdir()] == ["out.csv"]


def test_catalogue():
    dfew = get_spec("dfew")
    assert dfew.class_names[0] == "happy" and dfew.num_classes == 7 and dfew.num_folds == 5
    assert dfew.counts["train"] == (9356, 9356, 9357, 9358, 9361)
    assert get_spec("cremad") is SPECS["CREMA-D"] and get_spec("werewolf_xl").num_classes == 3
    assert get_spec("FERV39K").sampling_rate == 1
    assert [spec.num_classes for spec in map(get_spec, ("MAFW", "RAVDESS", "custom"))] == [
        *(11, 8, None)
    ]
    window = get_spec("voxceleb2").face_window  # as the released code cuts
    assert window(160) == window(64) == (0, 32, 160, 160)
    assert window(192) == (0, 16, 192, 192)
    assert window(224) is None
    with pytest.raises(ValueError, match="known are voxceleb2, DFEW"):
        get_spec("imagenet")
    assert spec_for_csv("saved/data/voxceleb2/info_clean.csv").name == "voxceleb2"
    assert spec_for_csv("saved/data/VoxCeleb2_dev.csv").name == "voxceleb2"
    assert spec_for_csv("saved/data/dfew/org/split01") is None


def test_published_class_counts_add_up():
    for spec in SPECS.values():
        for part, counts in spec.class_counts.items():
            assert sum(counts) == spec.counts[part], (spec.name, part)
            assert len(counts) == spec.num_classes


def test_classes_file_round_trip_and_errors(tmp_path):
    names = LabelNames(task="regression", class_names=("valence", "arousal"), data_set="mine")
    write_classes(tmp_path, names)
    assert read_classes(tmp_path) == names
    assert read_classes(tmp_path / "elsewhere") is None
    (tmp_path / "classes.json").write_text('{"task": "guess", "class_names": ["a"]}')
    with pytest.raises(ValueError, match=r"classes\.json: task 'guess': choose classification"):
        read_classes(tmp_path)
    with pytest.raises(ValueError, match="class names repeat: a"):
        LabelNames(task="classification", class_names=("a", "a"))
    with pytest.raises(ValueError, match=r"multihead.* there must be \['a', 'b'\]"):
        LabelNames(task="multihead", class_names=("a", "b"), heads={"a": ("x",)})


@pytest.mark.parametrize("task", ["classification", "pretrain"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4,0\nb.mp4,1\n", "separated by commas"),
        ("path;label\na.mp4;0\n", "separated by semicolons"),
        ("my clip.mp4\t0\n", "separated by tabs"),
        ("path label\na.mp4 0\n", "the first line is a header, 'path label'"),
    ],
)
def test_tables_of_other_programs_are_told_in_one_line(videos, text, message, task):
    error = problems_of(write(videos / "t.csv", text), task=task, names="ab", data_root=videos)
    ((line, problem),) = error.problems
    assert line == 0 and message in problem and "svfap.preprocess.custom" in problem


def test_videos_may_be_called_as_columns_are(videos):
    (videos / "video").mkdir()
    csv = write(videos / "n.csv", "video 1\n")
    assert len(read_annotations(csv, task="classification", names="ab", data_root=videos)) == 1


def test_commas_in_paths_and_names_for_numbers(videos):
    (videos / "x,y.mp4").touch()
    csv = write(videos / "n.csv", "x,y.mp4 Happy\n")
    error = problems_of(csv, task="classification", names=["sad", "happy"], data_root=videos)
    assert error.problems[0][1].endswith("classes are numbered from 0 (Happy is 1)")
    write(csv, "x,y.mp4\n")
    assert len(read_annotations(csv, task="pretrain", data_root=videos)) == 1

"""Tables over folds, and comparisons of two systems, from files."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest

from svfap.datasets.catalog import get_spec
from svfap.engine.compare import compare, format_comparison
from svfap.engine.compare import main as compare_main
from svfap.engine.results.find import find_results, pool, subjects_of
from svfap.engine.results.kinds.classes import Classes
from svfap.engine.results.kinds.numbers import ClassesAndNumbers, Numbers
from svfap.engine.results.metrics import regression_metrics
from svfap.engine.results.predictions import write_metrics, write_predictions
from svfap.engine.summarize import MEAN, POOLED, crossval_table, format_summary
from svfap.engine.summarize import main as summarize_main
from tests.conftest import ROOT

NAMES = ["happy", "sad", "disgust"]

# UAR and WAR (%) per fold and in total, from the README of SVFAP; MAFW's WAR total is .01 off the
# mean of its rounded folds.
SVFAP_README = {
    "dfew": (
        [63.63, 58.82, 64.88, 63.73, 68.39],
        [75.31, 71.68, 74.96, 74.65, 77.44],
        63.89,
        74.81,
    ),
    "mafw": (
        [38.40, 40.94, 46.27, 47.78, 44.17],
        [49.10, 53.95, 59.68, 61.30, 57.56],
        43.51,
        56.31,
    ),
}


def write_run(folder, labels, predicted, *, prefix="", weights="last", split="test", names=NAMES):
    folder.mkdir(parents=True)
    ids = [f"{prefix or folder.name}/{index:05}" for index in range(len(labels))]
    scores = np.eye(len(names))[predicted]
    predictions = Classes.from_scores(ids, labels, scores, names)
    write_predictions(folder / "pred.csv", predictions)
    write_metrics(folder / "metrics.json", predictions.metrics(), weights=weights, split=split)
    return folder


@pytest.fixture
def folds(tmp_path):
    """Three folds with a rare class; fold 10 sorts after fold 2."""
    write_run(tmp_path / "cv" / "fold1", [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 2])
    write_run(tmp_path / "cv" / "fold2", [0, 0, 1, 1, 2, 2], [0, 0, 1, 0, 0, 1])
    write_run(tmp_path / "cv" / "fold10", [0, 0, 1, 2, 2, 2], [0, 0, 1, 2, 2, 2])
    return tmp_path / "cv"


def test_folds_pooled_and_mean(folds):
    summary = crossval_table(find_results([folds]), num_resamples=200)
    assert [row.name for row in summary.rows] == ["fold1", "fold2", "fold10", POOLED, MEAN]
    *_, pooled, mean = summary.rows
    assert [row.num_videos for row in summary.rows] == [6, 6, 6, 18, None]
    # Recall of happy 6/7, sad 4/5, disgust 4/6.
    assert pooled.values["uar"] == pytest.approx((6 / 7 + 4 / 5 + 4 / 6) / 3)
    uar = [(2 / 3 + 1 + 1) / 3, (1 + 1 / 2 + 0) / 3, 1.0]
    assert [row.values["uar"] for row in summary.rows[:3]] == pytest.approx(uar)
    assert mean.values["uar"] == pytest.approx(np.mean(uar))
    assert mean.deviations["uar"] == pytest.approx(np.std(uar, ddof=1))
    assert abs(mean.values["uar"] - pooled.values["uar"]) > 0.01
    # Folds of one size: pooled accuracy is the mean of accuracies.
    assert mean.values["war"] == pytest.approx(pooled.values["war"])
    low, high = pooled.intervals["uar"]
    assert low < pooled.values["uar"] < high
    assert {row.weights for row in summary.rows} == {"last"}
    assert {row.split for row in summary.rows} == {"test"}


@pytest.mark.parametrize("data_set", sorted(SVFAP_README))
def test_fold_means_of_svfap_readme(tmp_path, data_set):
    uars, wars, total_uar, total_war = SVFAP_README[data_set]
    for fold, (uar, war) in enumerate(zip(uars, wars), start=1):
        path = tmp_path / f"split0{fold}" / "metrics.json"
        path.parent.mkdir()
        write_metrics(path, {"uar": uar / 100, "war": war / 100}, weights="last", split="test")
    summary = crossval_table(find_results([tmp_path]))
    assert [row.name for row in summary.rows] == [*(f"split0{i}" for i in range(1, 6)), MEAN]
    assert 100 * summary.rows[-1].values["uar"] == pytest.approx(total_uar, abs=0.005)
    assert 100 * summary.rows[-1].values["war"] == pytest.approx(total_war, abs=0.0085)
    text = format_summary(summary)
    assert f" {total_uar:.2f} ± " in text
    assert "neither pooled scores nor intervals" in text


def test_markdown(folds):
    text = format_summary(crossval_table(find_results([folds]), num_resamples=200))
    lines = text.splitlines()
    assert lines[0].startswith("| fold ")
    assert "UAR" in lines[0] and "weights" in lines[0] and "split" in lines[0]
    assert lines[1].startswith("| ---") and "-: |" in lines[1]
    assert len({len(line) for line in lines[:7]}) == 1
    assert "| pooled        |     18 | 77.46 [" in text
    assert "- Scores in percent." in lines
    assert "percentile bootstrap over videos, 200 resamples" in text


def test_csv_holds_fractions_and_all_intervals(folds):
    text = format_summary(crossval_table(find_results([folds]), num_resamples=200), "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["fold"] for row in rows] == ["fold1", "fold2", "fold10", POOLED, MEAN]
    assert rows[3]["uar"] == "0.774603"
    assert float(rows[0]["uar_low"]) <= float(rows[0]["uar"]) <= float(rows[0]["uar_high"])
    assert rows[4]["uar_low"] == ""
    assert rows[3]["weights"] == "last"


def test_latex(folds, tmp_path):
    write_run(tmp_path / "odd_name", [0, 1, 2], [0, 1, 2])
    sources = [folds, tmp_path / "odd_name"]
    text = format_summary(crossval_table(find_results(sources), num_resamples=50), "latex")
    assert text.startswith("\\begin{tabular}{lrrrrrrrr}\n\\toprule\nfold & videos & UAR & WAR")
    assert r"odd\_name & 3 & 100.00" in text
    assert r" $\pm$ " in text
    assert text.count("\\\\\n") == 7


def test_weights_stand_beside_the_numbers_and_differences_are_said(folds, tmp_path):
    other = write_run(
        tmp_path / "other", [0, 1, 2], [0, 1, 1], weights="best on val", split="test2"
    )
    summary = crossval_table(find_results([folds / "fold1", other]), num_resamples=50)
    assert [row.weights for row in summary.rows] == ["last", "best on val"] + [
        "last / best on val"
    ] * 2
    assert "Caution: the folds differ in their weights." in summary.notes
    assert "Caution: the folds differ in their split." in summary.notes


def test_notes_of_the_evaluation_are_passed_on(tmp_path):
    run = write_run(tmp_path / "run", [0, 1, 2], [0, 1, 1])
    stated = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**stated, "notes": ["validation is test"]}))
    summary = crossval_table(find_results([run]), num_resamples=50)
    assert "run: validation is test" in summary.notes
    assert [row.name for row in summary.rows] == ["run"]
    assert summary.rows[0].intervals["war"][0] < 2 / 3


def test_other_programs_predictions_without_metrics(tmp_path):
    (tmp_path / "theirs.csv").write_text("id,label,pred\na,0,0\nb,1,0\nc,1,1\n")
    (summary,) = [crossval_table(find_results([tmp_path / "theirs.csv"]), num_resamples=50)]
    assert summary.rows[0].name == "theirs"
    assert summary.rows[0].values["uar"] == 0.75
    assert summary.rows[0].weights == "not stated"


def test_absent_class_is_named(tmp_path):
    run = write_run(tmp_path / "run", [0, 1, 0], [0, 1, 2])
    summary = crossval_table(find_results([run]), num_resamples=50)
    assert "No videos of disgust: not part of UAR." in summary.notes


def test_regression_folds(tmp_path):
    random = np.random.default_rng(0)
    for fold in (1, 2):
        targets = random.random((30, 2))
        values = targets + random.normal(0, 0.1, targets.shape)
        ids = [f"{fold}/{i}" for i in range(30)]
        (tmp_path / f"fold{fold}").mkdir()
        predictions = Numbers.from_scores(ids, targets, values, ["valence", "arousal"])
        write_predictions(tmp_path / f"fold{fold}" / "pred.csv", predictions)
    results = find_results([tmp_path])
    summary = crossval_table(results, num_resamples=100)
    pooled = summary.rows[2]
    assert pooled.values["ccc"] == pytest.approx(pool(results).metrics()["ccc"])
    assert pooled.intervals["ccc"][0] < pooled.values["ccc"] < pooled.intervals["ccc"][1]
    assert "1 - MAE" in format_summary(summary)


def test_videos_in_two_folds_are_refused(tmp_path):
    runs = [write_run(tmp_path / name, [0, 1], [0, 1], prefix="same") for name in "ab"]
    with pytest.raises(
        ValueError, match=r"2 videos occur in more than one fold: same/00000 \(in a"
    ):
        crossval_table(find_results(runs))


def test_what_find_results_refuses(folds, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_results([tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="was the run evaluated"):
        find_results([tmp_path / "empty"])
    with pytest.raises(ValueError, match="more than once"):
        find_results([folds, folds / "fold1"])
    other = write_run(tmp_path / "other", [0, 1], [0, 1], names=["x", "y", "z"])
    with pytest.raises(ValueError, match="classes differ"):
        crossval_table(find_results([folds, other]))
    metrics = json.loads((folds / "fold1" / "metrics.json").read_text())
    metrics["uar"] = 0.5
    (folds / "fold1" / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(ValueError, match="not of the same evaluation"):
        find_results([folds])


def test_subjects(tmp_path):
    path = tmp_path / "subjects.csv"
    path.write_text("video_name,subject\n17,anna\n00018,ben\na/b.mp4,carl\nc,dora\n")
    ids = ["jpg_256/00017", "jpg_256/00018", "a/b.mp4", "frames/c.mp4"]
    assert subjects_of(path, ids) == ["anna", "ben", "carl", "dora"]
    with pytest.raises(
        ValueError, match="no subject for 1 of 2 videos: x/19. Its names look like 17"
    ):
        subjects_of(path, ["jpg_256/00017", "x/19"])
    path.write_text("video_name,subject\n1,a\n1,b\n")
    with pytest.raises(ValueError, match="line 3: '1' needs one subject"):
        subjects_of(path, ["1"])
    path.write_text("name,who\n1,a\n")
    with pytest.raises(ValueError, match="needed: video_name"):
        subjects_of(path, ["1"])


def test_intervals_by_subject_are_wider_where_subjects_differ(tmp_path):
    labels = np.tile([0, 1], 50)
    predicted = np.where(np.arange(100) < 50, labels, 0)
    run = write_run(tmp_path / "run", labels, predicted, prefix="clips")
    path = tmp_path / "subjects.csv"
    names = "".join(f"{i},{i // 10}\n" for i in range(100))
    path.write_text("video_name,subject\n" + names)
    by_video = crossval_table(find_results([run])).rows[0].intervals["war"]
    summary = crossval_table(find_results([run]), path)
    by_subject = summary.rows[0].intervals["war"]
    assert by_subject[1] - by_subject[0] > 1.2 * (by_video[1] - by_video[0])
    assert "over subjects with all their videos" in summary.notes[0]


def test_comparison_of_folds_cut_differently(tmp_path):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 40)
    ids = np.array([f"v{i}" for i in range(40)])
    good, bad = labels.copy(), (labels + (random.random(40) < 0.5)) % 3
    for system, predicted, cut in (("good", good, 20), ("bad", bad, 10)):
        for fold, part in enumerate((slice(0, cut), slice(cut, 40))):
            folder = tmp_path / system / f"fold{fold}"
            folder.mkdir(parents=True)
            order = random.permutation(len(ids[part]))
            predictions = Classes(
                ids=list(ids[part][order]), labels=labels[part][order],
                predicted=predicted[part][order], names=None,
            )  # fmt: skip
            write_predictions(folder / "pred.csv", predictions)
    sides = [find_results([tmp_path / system]) for system in ("good", "bad")]
    test = compare(*sides, num_resamples=500)
    assert test.first["war"] == 1.0
    assert test.second["war"] == (bad == labels).mean()
    assert test.only_first_right == (bad != labels).sum()
    assert test.p_values["war"] < 0.01
    text = format_comparison(test)
    assert f"| WAR         | 100.00 | {100 * test.second['war']:.2f} |" in text
    assert "B only: 0" in text
    rows = list(csv.DictReader(io.StringIO(format_comparison(test, "csv"))))
    assert rows[1]["A"] == "1.000000"
    assert float(rows[1]["McNemar p"]) == pytest.approx(test.mcnemar_p, abs=1e-4)


def write_both(folder, ids, classes, right, labels, values):
    """A run with a class and a number."""
    folder.mkdir(parents=True)
    of_values = Numbers.from_scores(ids, labels[:, None], values[:, None], ["valence"])
    predicted = np.where(right, classes, (classes + 1) % 3)
    of_class = Classes.from_scores(ids, classes, np.eye(3)[predicted], NAMES)
    both = ClassesAndNumbers(**vars(of_class), values=of_values)
    write_predictions(folder / "pred.csv", both)
    write_predictions(folder / "values.csv", of_values)
    write_metrics(folder / "metrics.json", both.metrics(), weights="last", split="test")


def test_a_class_and_values_are_pooled_and_compared_together(tmp_path):
    random = np.random.default_rng(0)
    ids, classes = [f"v{i}" for i in range(40)], np.arange(40) % 3
    labels = random.normal(size=40)
    right, close = np.arange(40) % 4 > 0, labels + random.normal(0, 0.2, 40)
    for fold, rows in enumerate((slice(0, 10), slice(10, 40))):
        part = [values[rows] for values in (ids, classes, right, labels, close)]
        write_both(tmp_path / "good" / f"fold{fold}", *part)
    back = slice(None, None, -1)
    write_both(tmp_path / "bad", ids[back], classes[back], right[back], labels[back], -close[back])
    good, bad = find_results([tmp_path / "good"]), find_results([tmp_path / "bad"])
    summary = crossval_table(good, num_resamples=200)
    pooled = next(row for row in summary.rows if row.name == POOLED)
    whole = regression_metrics(labels[:, None], close[:, None], ["valence"])
    assert pooled.values["war"] == 0.75 and pooled.values["rmse"] == pytest.approx(whole["rmse"])
    low, high = pooled.intervals["ccc"]
    assert low < whole["ccc"] < high
    text = format_summary(summary)
    assert "| 75.00 [" in text and f"| {whole['ccc']:.3f} [{low:.3f}, {high:.3f}] |" in text
    assert "- UAR, WAR, weighted F1, micro F1, macro F1 in percent." in text
    test = compare(good, bad, num_resamples=500)
    assert test.p_values["war"] == 1 and test.p_values["ccc"] < 0.01
    assert test.second["pcc"] == pytest.approx(-whole["pcc"])
    assert f"| PCC         | {whole['pcc']:.3f} | {-whole['pcc']:.3f} |" in format_comparison(test)
    with pytest.raises(ValueError, match="different kinds .*with values.csv"):
        pool([*good, *find_results([write_run(tmp_path / "plain", [0, 1, 2], [0, 1, 2])])])
    (tmp_path / "bad" / "values.csv").write_bytes(
        (tmp_path / "good" / "fold1" / "values.csv").read_bytes()
    )
    with pytest.raises(ValueError, match="values.csv is of other videos than pred.csv"):
        find_results([tmp_path / "bad"])


def test_comparison_lists_what_does_not_match(tmp_path, capsys):
    a = write_run(tmp_path / "a", [0, 1, 2], [0, 1, 2], prefix="clip")
    b = write_run(tmp_path / "b", [0, 1], [0, 1], prefix="clip")
    c = write_run(tmp_path / "c", [0, 1, 1], [0, 1, 2], prefix="clip")
    with pytest.raises(
        ValueError, match=r"1 only in the first \(clip/00002\), 0 only in the second"
    ):
        compare(find_results([a]), find_results([b]))
    with pytest.raises(ValueError, match="labels disagree for 1 videos: clip/00002: 2 and 1"):
        compare(find_results([a]), find_results([c]))
    with pytest.raises(SystemExit) as caught:
        compare_main([str(a), str(b)])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "clip/00002" in said and "--common" in said
    compare_main([str(a), str(b), "--common", "--num_resamples", "50"])
    assert "Compared on the 2 videos that both have; left out are 1" in capsys.readouterr().out


def test_commands(folds, tmp_path, capsys):
    summarize_main([str(folds), "--num_resamples", "50"])
    assert "| pooled " in capsys.readouterr().out
    target = tmp_path / "tables" / "table.tex"
    summarize_main([str(folds), "--format", "latex", "--output", str(target)])
    assert target.read_text().startswith("\\begin{tabular}")
    assert capsys.readouterr().out == ""
    compare_main([str(folds), str(folds), "--num_resamples", "50"])
    out = capsys.readouterr().out
    assert "weights last; split test; 18 videos." in out
    assert "1.0000" in out


def test_module_runs_as_a_command():
    for module in ("engine.summarize", "engine.compare"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        assert "--subjects" in done.stdout


def test_published_results_stand_below_and_are_those_of_the_readme(folds, capsys):
    table = (ROOT / "README.md").read_text().partition("| | DFEW |")[2].partition("\n\n")[0]
    names = (
        "DFEW",
        *(name.strip() for name in table.partition("\n")[0].split("|") if name.strip()),
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    for place, name in enumerate(names, 1):
        stated = {row[0]: f"{row[place]}" for row in rows if row[place]}
        known = get_spec(name).published
        assert {k: f"{uar:.2f} / {war:.2f}" for k, (uar, war) in known.items()} == stated
    summarize_main([str(folds), "--published", "RAVDESS", "--num_resamples", "100"])
    shown = capsys.readouterr().out
    assert "| SVFAP-B (paper)" in shown and "75.15" in shown and "as published" in shown
    with pytest.raises(SystemExit):
        summarize_main([str(folds), "--published", "AffectNet"])
    assert "no published results are known" in capsys.readouterr().err

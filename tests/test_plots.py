"""Figures draw what the log and the metrics hold."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import font_manager

from svfap.engine.report.plots import (
    confusion_figure,
    curves_figure,
    families,
    plot_training,
    save_figure,
    scatter_figure,
    spread,
)
from svfap.engine.results.find import read_log
from svfap.engine.results.metrics import classification_metrics

NAMES = ["happy", "sad", "neutral"]


def write_log(path, records, tail=""):
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + tail)
    return path


def test_numbers_spread_evenly():
    assert spread(10, 4) == [0, 3, 6, 9] and spread(10, 1) == [0]
    assert spread(3, 8) == [0, 1, 2] and spread(1, 4) == [0] and spread(5, 0) == []


def test_pretraining_curves(tmp_path):
    records = [{"epoch": e, "train_loss": 1 / (e + 1), "train_lr": 1e-3 * e} for e in range(5)]
    figure = curves_figure(records)
    loss, rate = figure.axes
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    np.testing.assert_allclose(rate.lines[0].get_ydata(), [0, 1e-3, 2e-3, 3e-3, 4e-3])
    write_log(tmp_path / "log.jsonl", records)
    plot_training(tmp_path)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "log.jsonl"]


def test_finetuning_curves_draw_only_epochs_that_were_validated():
    records = [
        {"epoch": 0, "train_loss": 2.0, "train_lr": 1e-4},
        {"epoch": 1, "train_loss": 1.5, "val_loss": 1.7, "val_uar": 0.3, "val_war": 0.4},
        {"epoch": 2, "train_loss": 1.0, "val_loss": None, "val_uar": 0.5, "val_war": 0.6},
    ]
    loss, recall, rate = curves_figure(records).axes
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    assert loss.lines[1].get_xydata().tolist() == [[2, 1.7]]
    assert recall.lines[0].get_xydata().tolist() == [[2, 0.3], [3, 0.5]]
    assert recall.lines[2].get_xydata().tolist() == [[3, 0.5]]  # the best
    assert recall.get_ylim()[1] < 0.7
    assert rate.lines[0].get_xydata().tolist() == [[1, 1e-4]]


def test_curves_show_chance_and_say_that_labels_are_smoothed():
    records = [{"epoch": 0, "train_loss": 2.0, "val_loss": 1.7, "val_uar": 0.3, "val_war": 0.4}]
    loss, recall = curves_figure(records, chance=0.25, smoothing=0.1).axes
    assert "smoothed by 0.1" in loss.get_xlabel()
    assert recall.lines[-1].get_ydata() == [0.25, 0.25]
    loss.figure.draw_without_rendering()
    assert all(tick == int(tick) for tick in loss.get_xticks())  # one epoch is no fraction


def test_log_of_a_killed_run(tmp_path, caplog):
    records = [{"epoch": 0, "train_loss": 3.0}, {"epoch": 1, "train_loss": 2.0}]
    records += [{"epoch": 1, "train_loss": 2.5}]
    path = write_log(tmp_path / "log.jsonl", records, tail='{"epoch": 2, "tra')
    assert [record["train_loss"] for record in read_log(path)] == [3.0, 2.5]
    assert "line 4" in caplog.text


def test_logs_without_anything_to_draw(tmp_path):
    plot_training(tmp_path)
    write_log(tmp_path / "log.jsonl", [{"epoch": 0}])
    plot_training(tmp_path)
    assert not (tmp_path / "curves.png").exists()


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_confusion_matrix_shows_counts_and_recall(tmp_path):
    metrics = classification_metrics([0, 0, 0, 0, 2, 2], [0, 0, 0, 1, 2, 1], NAMES)
    figure = confusion_figure(metrics)
    counts, recall, scale, _ = figure.axes
    assert [text.get_text() for text in scale.get_yticklabels()] == ["0", "1", "3"]
    assert texts(counts) == ["3", "1", "0", "0", "0", "0", "0", "1", "1"]
    assert texts(recall) == ["75", "25", "0", "", "", "", "0", "50", "50", "no videos"]
    assert [label.get_text() for label in counts.get_yticklabels()] == NAMES
    assert figure.get_suptitle() == "UAR 62.50 %   WAR 66.67 %"
    for suffix, magic in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
        save_figure(figure, tmp_path / f"matrix{suffix}")
        assert (tmp_path / f"matrix{suffix}").read_bytes().startswith(magic)


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_names_are_no_formulas(tmp_path, ending):
    names = ["$x^{$", "100$", r"\frac$\q$"]
    labels = np.array([0, 1, 2, 0])
    metrics = classification_metrics(labels, labels, names)
    path = tmp_path / f"matrix.{ending}"
    save_figure(confusion_figure(metrics), path)
    if ending == "svg":
        assert all(name in path.read_text() for name in names)
    axis = (figure := curves_figure([{"epoch": 0, "train_loss": 1.0}])).axes[0]
    axis.set_title(names[0])
    axis.legend([names[2]])
    save_figure(figure, path)


def test_letters_that_matplotlib_lacks_are_taken_from_the_fonts_of_the_machine(monkeypatch):
    own = [font for font in font_manager.fontManager.ttflist if font.name == "DejaVu Sans"]
    installed = [*own, *(replace(own[0], name=name) for name in ("SimHei", "Other"))]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", installed)
    families.cache_clear()
    assert families("colère\u2026\nof two lines") == ["DejaVu Sans"]
    assert families("\u6012 joy") == ["DejaVu Sans", "SimHei"]
    families.cache_clear()


def test_no_global_pyplot_state():
    before = "matplotlib.pyplot" in sys.modules
    curves_figure([{"epoch": 0, "train_loss": 1.0}])
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_points_are_told_apart_in_panels_side_by_side():
    points = np.random.default_rng(0).normal(size=(40, 2))
    panels = {"class": [f"c{i % 9}" for i in range(40)], "who": [f"p{i}" for i in range(40)]}
    first, second = scatter_figure(points, panels).axes
    looks = {(c.get_label(), str(c.get_facecolor()), str(c.get_paths()[0].vertices.round(3)))
             for c in first.collections}  # fmt: skip
    assert len({look[1:] for look in looks}) == 9  # no two classes look alike
    assert first.get_legend() and first.get_title() == "class"
    assert second.get_legend() is None and second.get_title() == "who (40)"

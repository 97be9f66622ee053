"""Reports hold the numbers of the run, need no network, and fit a phone."""

import base64
import io
import json
import re
import shutil
import subprocess
from html import escape

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from svfap.engine.report import overview
from svfap.engine.report.page import main, write_report
from svfap.engine.report.plots import MAX_LETTERS, confusion_figure, new_figure, save_figure
from svfap.engine.results.kinds.classes import Classes
from svfap.engine.results.kinds.numbers import ClassesAndNumbers, Numbers
from svfap.engine.results.predictions import write_metrics, write_predictions

NAMES = ["happy", 20 * "sad", "disgust & fear"]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def write_fold(folder, fold, *, seed=0):
    """A fine-tuning run as the program leaves it, with frame folders as videos."""
    random = np.random.default_rng(seed + fold)
    folder.mkdir(parents=True)
    labels = np.repeat([0, 1, 2], [10, 8, 4])
    predicted = np.where(random.random(22) < 0.7, labels, (labels + 1) % 3)
    predicted[-1] = 0
    frames = folder.parent.parent / "frames"
    ids = [f"fold{fold}/{index:03}<b>" for index in range(22)]
    for video in ids:
        (frames / video).mkdir(parents=True)
        for number, grey in enumerate(random.integers(256, size=2), start=1):
            pixels = np.full((40, 60, 3), grey, np.uint8)
            Image.fromarray(pixels).save(frames / video / f"{number}.png")
    data = folder.parent.parent / "data" / f"fold{fold}"
    data.mkdir(parents=True)
    rows = [f"{video} {label}\n" for video, label in zip(ids, labels)]
    (data / "test.csv").write_text("".join(rows))
    (data / "train.csv").write_text("other/1 0\nother/2 2\nother/3 2\n")
    scores = np.eye(3)[predicted] * 0.6 + 0.4 / 3
    predictions = Classes.from_scores(ids, labels, scores, NAMES)
    write_predictions(folder / "pred.csv", predictions)
    metrics = predictions.metrics() | {"notes": ["validation is the test part"]}
    write_metrics(folder / "metrics.json", metrics, weights="last", split="test")
    config = {
        "flags": {
            "model": "svfap_tiny_patch8_64",
            "data_set": "DFEW",
            "data_path": str(data),
            "data_root": str(frames),
            "lr": 1e-3,
            "explicit": ["lr"],
        },
        "resolved": {"class_names": NAMES},
        "origin": {"weights": {"file": "pretrained.pth", "digest": "0"}},
        "commit": "abc123",
        "versions": {"torch": "2.0"},
        "command": ["run_finetune.py", "--lr", "1e-3"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    lines = [
        {"epoch": e, "train_loss": 1 / (e + 1), "val_uar": 0.1 * e, "train_lr": 0.1,
         "seconds": 3600 * (e + 1), "clips_per_second": 12.0}
        for e in range(3)
    ]  # fmt: skip
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def cross_validation(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    for fold in (1, 2, 3):
        write_fold(root / "runs" / f"fold{fold}", fold)
    return root / "runs"


@pytest.fixture(scope="module")
def fold_page(cross_validation):
    return write_report(cross_validation / "fold1").read_text()


@pytest.fixture(scope="module")
def folds_page(cross_validation):
    return write_report(cross_validation).read_text()


def text_of(page):
    text = re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.S))
    return re.sub(r"[ \n\u00a0]+", " ", text)


def assert_self_contained(page):
    places = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert places and all(p.startswith(("data:image/", "#")) for p in places)
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    assert "@import" not in page and "url(" not in page
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", page)  # such as of a mistaken escape in the style
    assert all('alt="' in tag and 'alt=""' not in tag for tag in re.findall(r"<img[^>]*>", page))


def test_report_of_one_run(cross_validation, fold_page):
    metrics = json.loads((cross_validation / "fold1" / "metrics.json").read_text())
    assert_self_contained(fold_page)
    text = text_of(fold_page)
    assert f"{100 * metrics['uar']:.1f} %" in text
    assert "last weights, split test" in text
    assert "validation is the test part" in text
    assert "svfap_tiny_patch8_64 on DFEW · fold1" in text
    assert "3:00:00" in text and "abc123" in text and "run_finetune.py --lr 1e-3" in text
    for title in ("Confusion matrix", "Recall per class", "Most confused", "Curves", "Data"):
        assert f"<h2>{title}</h2>" in fold_page
    for name in ("confusion_counts", "confusion_recall", "recall", "loss", "learning_rate"):
        for suffix in (".png", ".pdf"):
            assert (cross_validation / "fold1" / "figures" / (name + suffix)).is_file()


def test_what_training_began_with_is_said(fold_page):
    assert "pretrained.pth" in fold_page and "licence" not in fold_page


def test_data_are_counted_per_class(fold_page):
    rows = re.findall(r"<tr>(.*?)</tr>", fold_page)
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    assert ["all", "3", "22"] in cells
    assert [escape("disgust & fear"), "2", "4"] in cells


def test_carved_validation_is_counted_as_such(tmp_path):
    run = write_fold(tmp_path / "runs" / "fold4", 4)
    (run / "validation.csv").write_text("other/2 2\n")
    (run / "training.csv").write_text("other/3 2\n")  # --label_fraction left the first one out
    rows = re.findall(r"<tr>(.*?)</tr>", write_report(run).read_text())
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    assert ["all", "1", "1", "22"] in cells
    assert ["happy", "0", "0", "10"] in cells
    assert [escape("disgust & fear"), "1", "1", "4"] in cells


@pytest.mark.parametrize("num_videos", [12, 4000])
def test_report_of_a_regression(tmp_path, num_videos):
    random = np.random.default_rng(0)
    labels = random.uniform(-1, 1, (num_videos, 2))
    values = 0.5 * labels + random.normal(0, 0.1, labels.shape)
    ids = [f"v/{index}" for index in range(num_videos)]
    predictions = Numbers.from_scores(ids, labels, values, ["valence", "energy/s"])
    write_predictions(tmp_path / "pred.csv", predictions)
    write_metrics(tmp_path / "metrics.json", predictions.metrics(), weights="last", split="test")
    page = write_report(tmp_path).read_text()
    for name in ("valence", "energy_s"):
        for suffix in (".png", ".pdf"):
            assert (tmp_path / "figures" / f"agreement_{name}{suffix}").is_file()
    assert 'alt="Predicted over true energy/s; the line is agreement"' in page
    assert f"{predictions.metrics()['ccc']:.3f}" in text_of(page)
    assert re.search(r"Look first at (valence|energy/s): its CCC, 0.\d+, is the lowest", page)


def test_report_of_the_frames_of_one_video_has_no_intervals(tmp_path):
    labels = np.random.default_rng(0).uniform(-1, 1, (20, 1))
    frames = {"frames": np.arange(20)}
    predictions = Numbers.from_scores(["a.mp4"] * 20, labels, labels / 2, ["valence"], **frames)
    write_predictions(tmp_path / "pred.csv", predictions)
    write_metrics(tmp_path / "metrics.json", predictions.metrics(), weights="last", split="test")
    assert "95 %:" not in text_of(write_report(tmp_path).read_text())


def test_report_of_a_class_and_values(tmp_path):
    """Pooled over folds: shares of classes in percent, numbers per dimension."""
    random = np.random.default_rng(0)
    labels = random.uniform(-1, 1, (40, 2))
    values = 0.5 * labels + random.normal(0, 0.1, labels.shape)
    classes, ids = np.arange(40) % 3, [f"v/{index}" for index in range(40)]
    scores = np.eye(3)[(classes + (np.arange(40) % 4 == 0)) % 3]
    for fold, rows in (("fold1", slice(0, 15)), ("fold2", slice(15, 40))):
        of_values = Numbers.from_scores(
            ids[rows], labels[rows], values[rows], ["valence", "arousal"]
        )
        of_class = Classes.from_scores(ids[rows], classes[rows], scores[rows], NAMES)
        both = ClassesAndNumbers(**vars(of_class), values=of_values)
        (tmp_path / fold).mkdir()
        write_predictions(tmp_path / fold / "pred.csv", both)
        write_predictions(tmp_path / fold / "values.csv", of_values)
        metrics = tmp_path / fold / "metrics.json"
        write_metrics(metrics, both.metrics(), weights="last", split="test")
    text = text_of(write_report(tmp_path).read_text())
    expected = Numbers.from_scores(ids, labels, values, ["valence", "arousal"]).metrics()
    assert "WAR 75.0 %" in text and f"CCC {expected['ccc']:.3f} 95 %: " in text
    for name in ("valence", "arousal"):
        own = expected["per_dimension"][name]
        assert f"{name} {own['pcc']:.3f} {own['ccc']:.3f} {own['mae']:.3f}" in text
        assert (tmp_path / "figures" / f"agreement_{name}.png").is_file()


def test_confused_pairs_with_examples(cross_validation, fold_page):
    counts = np.array(
        json.loads((cross_validation / "fold1" / "metrics.json").read_text())["confusion_matrix"]
    )
    text = text_of(fold_page)
    assert f"disgust &amp; fear taken for happy: {counts[2, 0]} of 4 videos" in text
    assert "happy taken for happy" not in text
    assert "000&lt;b&gt;" in fold_page or "data:image/jpeg" in fold_page
    assert "<b>" not in re.sub(r'<div class="card">.*?</div>', "", fold_page)
    assert "data:image/jpeg" in fold_page


def test_videos_that_are_gone_are_said_to_be(tmp_path):
    run = write_fold(tmp_path / "runs" / "fold9", 9)
    shutil.rmtree(tmp_path / "frames")
    shutil.rmtree(tmp_path / "data")
    page = write_report(run).read_text()
    assert "the video is not here" in page
    assert "data:image/jpeg" not in page
    assert "<h2>Data</h2>" not in page


def test_report_of_a_cross_validation(cross_validation, folds_page):
    page = folds_page
    assert_self_contained(page)
    text = text_of(page)
    assert "Report of 3 folds" in text and "pooled" in text and "mean of folds" in text
    assert "fold2: validation is the test part" in text
    assert len(page) < 2_000_000
    assert (cross_validation / "figures" / "loss_fold3.pdf").is_file()


def test_report_of_pretraining(tmp_path):
    run = tmp_path / "pre"
    (run / "reconstructions").mkdir(parents=True)
    (run / "log.jsonl").write_text('{"epoch": 0, "train_loss": 1.0}\n')
    (run / "unreadable.csv").write_text("path,status,reason\nbad.mp4,skipped,no frames\n")
    for name in ("000_a", "001_b", "002_c"):
        save_figure(new_figure(2, 2), run / "reconstructions" / f"{name}.png")
    errors = {"000_a.png": 0.9, "001_b.png": 1.25, "002_c.png": 0.5}
    (run / "reconstructions" / "errors.json").write_text(json.dumps(errors))
    page = write_report(run).read_text()
    shown = re.findall(r'alt="reconstruction (\w+)"', page)
    assert shown == ["000_a", "002_c", "001_b"]  # the first explains, then the best
    assert "1 of 3 are worse than the mean." in page and "1.25 of the error of the mean" in page
    assert "1 videos with problems: bad.mp4 (skipped: no frames)" in page
    assert 'alt="reconstruction 000_a"' in page
    assert "epochs 1" in text_of(page) and "loss 1.000" in text_of(page)


def test_a_report_begins_with_what_matters(cross_validation, fold_page):
    """The result beside chance, the weakest class, links to all sections, clips that play."""
    text = text_of(fold_page)
    metrics = json.loads((cross_validation / "fold1" / "metrics.json").read_text())
    uar = f"{100 * metrics['uar']:.2f}"
    assert re.search(rf"etter than chance: UAR {uar} %, interval .*guessing gives 33.33 %", text)
    recalls = metrics["per_class_recall"]
    assert f"Look first at {escape(NAMES[int(np.argmin(recalls))])}: " in text
    for place in re.findall(r'href="#([^"]+)"', fold_page):
        assert f'<section id="{place}">' in fold_page
    assert 'href="#most-confused"' in fold_page
    (moving, *_) = re.findall(
        r'<details class="clip"[^>]*>.*?data:image/webp;base64,([^"]*)', fold_page
    )
    assert Image.open(io.BytesIO(base64.b64decode(moving))).n_frames > 1


def test_many_classes_are_drawn_wide_and_tables_of_them_fold_away(tmp_path):
    names = [f"class {index} of many, with a name that is long" for index in range(20)]
    labels = np.arange(40) % 20
    ids = [f"{index}.mp4" for index in range(40)]
    predictions = Classes.from_scores(ids, labels, np.eye(20)[(labels + (labels < 3)) % 20], names)
    write_predictions(tmp_path / "pred.csv", predictions)
    write_metrics(tmp_path / "metrics.json", predictions.metrics(), weights="last", split="test")
    page = write_report(tmp_path).read_text()
    assert '<div class="figures wide"><figure><img class="chart"' in page
    assert "<details><summary>As a table</summary>" in page
    figure = confusion_figure(predictions.metrics(), ["recall"])
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels[7] == "class 7 of \u2026that is long"
    assert max(map(len, labels)) <= MAX_LETTERS and len(set(labels)) == 20
    assert "0" not in [text.get_text() for text in figure.axes[0].texts]


def test_a_report_beside_another_run(cross_validation, tmp_path):
    """Differences on the videos of both."""
    run = tmp_path / "run"
    shutil.copytree(cross_validation / "fold1", run)
    page = text_of(write_report(run, beside=cross_validation / "fold1").read_text())
    assert re.search(
        r"Comparison UAR: .* here, .* in fold1; difference 0.00 \[.*\], which may be chance", page
    )
    assert re.search(r"metric this run fold1 difference.*UAR \S+ \S+ 0.00 \[0.00, ", page)


def test_report_of_features(cross_validation, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(cross_validation / "fold1", run)
    features = np.random.default_rng(0).normal(size=(22, 8)).astype(np.float32)
    np.savez(run / "features.npz", feature=features, label=np.repeat([0, 1, 2], [10, 8, 4]))
    assert "t-SNE of 22 videos" in write_report(run).read_text()


def test_command(cross_validation, tmp_path, capsys):
    main([str(cross_validation / "fold1")])
    assert capsys.readouterr().out.strip().endswith("report.html")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit):
        main([str(tmp_path / "empty")])
    assert "was the run evaluated" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("which", ["fold_page", "folds_page"])
@pytest.mark.parametrize("width_px", [390, 1280])
def test_page_fits_the_screen(tmp_path, request, which, width_px):
    page = request.getfixturevalue(which).replace(' name="clip"', "")
    page = page.replace("<details", "<details open")
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<body><iframe id=f style="width:{width_px}px;height:800px" srcdoc="{escape(page)}">'
        "</iframe><script>f.onload=()=>{const d=f.contentDocument.documentElement;"
        "document.title='widths '+d.scrollWidth+' '+d.clientWidth}</script></body>"
    )
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom",
         frame.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    needed, given = re.search(r"<title>widths (\d+) (\d+)", done.stdout).groups()
    assert int(needed) <= int(given)


def test_overview_of_two_runs(cross_validation, tmp_path, capsys):
    runs = [str(cross_validation / name) for name in ("fold1", "fold2")]
    reconstructions = tmp_path / "pretrain/reconstructions"
    reconstructions.mkdir(parents=True)
    save_figure(new_figure(1, 1), reconstructions / "a.png")
    more = ["--pretraining", str(tmp_path / "pretrain"), "--output", str(tmp_path / "all.png")]
    overview.main([*runs, "--names", "pre-trained", "from scratch", *more])
    assert (tmp_path / "all.png").is_file() and "overview: " in capsys.readouterr().out
    overview.overview_figure([cross_validation / "fold1"] * 9, list("abcdefghi"), [])
    figure = overview.overview_figure([cross_validation / "fold1"], ["mine"], [])
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert sum(text.endswith(("\u2713", "\u2717")) for text in texts) == 2 * len(NAMES)
    lines = [line for text in texts if "\u2717" in text for line in text.split("\n")]
    assert max(map(len, lines)) <= overview.LETTERS + 2
    with pytest.raises(SystemExit):
        overview.main([*runs, "--names", "one", *more])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit):
        overview.main([str(tmp_path / "empty"), *more])
    numbers = Numbers.from_scores(["a", "b"], [[0.0], [1.0]], [[0.0], [1.0]], ["valence"])
    write_predictions(tmp_path / "empty" / "pred.csv", numbers)
    for wrong in ([str(tmp_path / "empty")], [runs[0], str(tmp_path / "empty")]):
        with pytest.raises(SystemExit):
            overview.main([*wrong, *more])
        assert "empty: no pred.csv with classes of videos" in capsys.readouterr().err

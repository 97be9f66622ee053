"""What a checkpoint is: one answer, whoever asks; its classes are matched by name."""

import re

import numpy as np
import pytest
import torch

from svfap import models
from svfap.datasets.labels.annotations import Annotations
from svfap.datasets.labels.classes import LabelNames, write_classes
from svfap.datasets.labels.frame_labels import FrameLabels
from svfap.datasets.labels.matching import read_mapping, relabel
from svfap.engine.export import describe, export
from svfap.engine.finetuning import finetune
from svfap.engine.flags.config import finetuning_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.identity import identify
from svfap.engine.predict.predictor import PredictionOptions, Predictor
from svfap.engine.probe.probing import load_frozen
from svfap.engine.results.predictions import read_predictions
from svfap.engine.verify_checkpoint import check_file
from svfap.models.convert import convert
from tests.conftest import ROOT
from tests.tiny_data import FINETUNE_FLAGS, make_tiny_data

NAMES = ("up", "Down", "left")


def classes(*names, task="classification", **more):
    return LabelNames(task=task, class_names=names, **more)


def annotations(labels, task="classification"):
    ids = [f"v{row}" for row in range(len(labels))]
    return Annotations("fold/test.csv", task, ids, ids, labels)


# ---------------------------------------------------------------- names


def test_classes_are_matched_by_name():
    theirs, ours = classes("left", "down"), classes(*NAMES)
    found = relabel(annotations(np.array([0, 1, 0])), theirs, ours)
    assert found.labels.tolist() == [2, 1, 2] and found.labels.dtype == np.int64
    mapping = read_mapping(["wave=Down", "none=-"])
    found = relabel(
        annotations(np.array([0, 1, 2, 1])), classes("wave", "none", "up"), ours, mapping
    )
    assert found.labels.tolist() == [1, 0] and list(found.ids) == ["v0", "v2"]
    many = read_mapping(["a=up", "b=up"])
    assert relabel(annotations(np.arange(2)), classes("a", "b"), ours, many).labels.tolist() == [
        0,
        0,
    ]


def test_columns_are_matched_by_name():
    values = np.array([[1.0, 2, 3], [4, 5, 6]], np.float32)
    theirs = classes("arousal", "valence", "dominance", task="regression")
    ours = classes("Valence", "arousal", task="regression")
    found = relabel(annotations(values, "regression"), theirs, ours, {"dominance": "-"})
    assert found.labels.tolist() == [[2, 1], [5, 4]]
    with pytest.raises(ValueError, match="no counterpart for dominance"):
        relabel(annotations(values, "regression"), theirs, ours)
    with pytest.raises(ValueError, match="nothing for valence"):
        relabel(annotations(values[:, :1], "regression"), classes("a", task="regression"),
                classes("a", "valence", task="regression"))  # fmt: skip
    frames = FrameLabels(values[:, :2], np.array([2]))
    theirs, ours = (classes(*n, task="regression_frames") for n in (("a", "v"), ("v", "a")))
    assert relabel(annotations(frames), theirs, ours).labels[0].tolist() == [[2, 1], [5, 4]]


def test_classes_of_heads_are_matched_by_name():
    theirs = classes("b", "a", task="multihead", heads={"b": ("x", "y"), "a": ("no", "yes")})
    ours = classes("a", "b", task="multihead", heads={"a": ("yes", "no"), "b": ("x", "y", "z")})
    found = relabel(annotations(np.array([[1, 0], [0, 1]]), "multihead"), theirs, ours)
    assert found.labels.tolist() == [[1, 1], [0, 0]]
    theirs = classes("e", "v", task="class_and_values", heads={"e": ("sad", "happy")})
    ours = classes("e", "v", task="class_and_values", heads={"e": ("happy", "sad")})
    labels = np.array([[0, 0.5], [1, 0.25]], np.float32)
    found = relabel(annotations(labels, "class_and_values"), theirs, ours)
    assert found.labels.tolist() == [[1, 0.5], [0, 0.25]]


@pytest.mark.parametrize(
    ("theirs", "mapping", "why"),
    [
        (classes("up", "wave"), {}, "no counterpart for wave"),
        (classes("up", task="regression"), {}, "labels of another kind"),
        (classes("up", "wave"), {"up": "-", "wave": "-"}, "every video is left out"),
    ],
)
def test_what_cannot_be_matched_is_shown_with_both_lists(theirs, mapping, why):
    with pytest.raises(ValueError, match=why) as caught:
        relabel(annotations(np.zeros(2, np.int64)), theirs, classes(*NAMES), mapping)
    text = str(caught.value)
    assert "fold/test.csv has labels up" in text and "up, Down, left" in text
    assert "--map_classes" in text


def test_mappings_that_cannot_be_meant():
    for pairs in (["up"], ["up="], ["=up"], ["a=up", "a=left"]):
        with pytest.raises(ValueError, match="write THEIRS=OURS"):
            read_mapping(pairs)
    for mapping in ({"typo": "up"}, {"up": "typo"}):
        with pytest.raises(ValueError, match="no typo among up"):
            relabel(annotations(np.zeros(1, np.int64)), classes("up"), classes(*NAMES), mapping)


# ---------------------------------------------------------------- evaluations


def save_model(path, names, *, seed=0, **more):
    torch.manual_seed(seed)
    model = models.create_model("svfap_tiny_patch8_64", img_size=32, num_classes=len(names),
                                stage_depths=[1, 2, 2], num_bottleneck_tokens=2)  # fmt: skip
    with torch.no_grad():
        model.head.weight.normal_()
        model.head.bias[2:] = -99.0
    content = {"model": model.state_dict(), "model_config": model.config, "class_names": names,
               "task": "classification", "flags": {"sampling_rate": 2}}  # fmt: skip
    torch.save(content | more, path)
    return model


def fold_of(data, folder, names, order):
    """The tiny test part with labels in another order, and what they mean."""
    folder.mkdir()
    rows = [row.split() for row in (data / "fold" / "test.csv").read_text().splitlines()]
    lines = [f"{path} {order[int(label)]}" for path, label in rows]
    for part in ("train", "test"):
        (folder / f"{part}.csv").write_text("\n".join(lines) + "\n")
    if names:
        write_classes(folder, classes(*names))
    return folder


def evaluate(fold, path, out, *more):
    argv = ["--eval", "--resume", str(path), "--data_path", str(fold), "--output_dir", str(out),
            "--device", "cpu", "--num_workers", "0", "--no_report", *more]  # fmt: skip
    return finetune(parse_flags(finetuning_parser(), argv))


def test_evaluation_goes_by_the_names_of_what_it_evaluates(data, tmp_path):
    path = tmp_path / "c.pth"
    save_model(path, ["right", "down", "still"])
    same = fold_of(data, tmp_path / "same", ("right", "down", "still"), (0, 1))
    expected = evaluate(same, path, tmp_path / "1")
    turned = fold_of(data, tmp_path / "turned", ("Down", "right"), (1, 0))
    found = evaluate(turned, path, tmp_path / "2")
    assert found["confusion_matrix"] == expected["confusion_matrix"]
    assert 0 < found["war"] < 1
    bare = fold_of(data, tmp_path / "bare", None, (0, 1))
    assert evaluate(bare, path, tmp_path / "3")["war"] == expected["war"]
    assert (
        evaluate(bare, path, tmp_path / "4", "--eval_data_path", str(turned))["war"]
        == (expected["war"])
    )
    other = fold_of(data, tmp_path / "other", ("along", "across"), (0, 1))
    for fold, more in ((other, []), (bare, ["--data_set", "CREMA-D"])):
        with pytest.raises(ValueError, match="has labels (along|angry), .*answers right, down"):
            evaluate(fold, path, tmp_path / "5", *more)
    mapped = ["--map_classes", "along=right", "across=down"]
    assert evaluate(other, path, tmp_path / "6", *mapped)["war"] == expected["war"]
    left_out = evaluate(other, path, tmp_path / "7", "--map_classes", "along=right", "across=-")
    assert left_out["num_videos"] == 2 and "3 of 5 videos" in left_out["notes"][0]
    with pytest.raises(ValueError, match="classes.json is for classification .*CREMA-D is"):
        evaluate(other, path, tmp_path / "8", "--data_set", "CREMA-D")
    with pytest.raises(ValueError, match=r"of another size .--num_frames 8: it has 16"):
        evaluate(bare, path, tmp_path / "9", "--num_frames", "8")


def test_a_test_part_of_another_folder_is_read_by_its_own_names(data, tmp_path):
    own = fold_of(data, tmp_path / "own", ("right", "down"), (0, 1))
    turned = fold_of(data, tmp_path / "turned", ("down", "right"), (1, 0))
    argv = [*FINETUNE_FLAGS, "--data_path", str(own), "--epochs", "1", "--max_steps", "1"]
    found = []
    for name, folder in (("a", own), ("b", turned)):
        more = ["--eval_data_path", str(folder), "--output_dir", str(tmp_path / name)]
        finetune(parse_flags(finetuning_parser(), [*argv, *more]))
        found.append(read_predictions(tmp_path / name / "pred.csv").labels.tolist())
    assert found[0] == found[1] == [1, 0, 1, 0, 1]


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("chosen", ["model", "model_ema"])
def test_everything_takes_the_weights_whose_scores_were_reported(data, tmp_path, chosen):
    """Evaluation, prediction, export, conversion, probes, verification and fine-tuning."""
    path = tmp_path / "renamed.pth"
    average = save_model(tmp_path / "other.pth", ["right", "down"], seed=1).state_dict()
    last = save_model(path, ["right", "down"], model_ema=average, chosen_weights=chosen)
    expected = average if chosen == "model_ema" else last.state_dict()

    def same(model):
        own = model.state_dict()
        return all(torch.equal(own[name], expected[name]) for name in own)

    predictor = Predictor(path, PredictionOptions(crop=False), device="cpu", amp="off")
    assert same(predictor.model) and same(check_file(path).model)
    assert same(load_frozen(path)[0])
    assert identify(path).averaged == (chosen == "model_ema")
    for ending in (".safetensors", ".pth"):
        convert(path, tmp_path / f"converted{ending}")
        assert same(identify(tmp_path / f"converted{ending}").build()[0])
    model = models.create_model(**last.config)
    models.load_weights(model, path)
    assert same(model)
    if chosen == "model_ema":  # once is enough for what takes so long
        export(predictor, tmp_path / "model.pt2")
        clip = torch.zeros((1, 16, 32, 32, 3), dtype=torch.uint8)
        exported = torch.export.load(tmp_path / "model.pt2").module()(clip)
        np.testing.assert_allclose(exported.detach(), predictor.scores(clip.numpy()), atol=1e-6)
    assert describe(predictor, raw=False)["sampling_rate"] == 2
    fold = fold_of(data, tmp_path / "fold", ("right", "down"), (0, 1))
    evaluate(fold, path, tmp_path / "out")
    scores = read_predictions(tmp_path / "out" / "pred.csv").scores
    video = (data / "fold" / "test.csv").read_text().split()[0]
    options = PredictionOptions(crop=False, window_stride=0)
    own = Predictor(path, options, device="cpu", amp="off").predict(video).tracks[0].scores
    np.testing.assert_allclose(scores[0], own, atol=1e-5)


def test_other_weights_of_a_file_can_be_asked_for(data, tmp_path):
    path = tmp_path / "c.pth"
    average = save_model(tmp_path / "other.pth", ["right", "down"], seed=1).state_dict()
    last = save_model(path, ["right", "down"], model_ema=average, chosen_weights="model_ema")
    weight = last.state_dict()["head.weight"]
    assert torch.equal(identify(path, averaged=False).weights["head.weight"], weight)
    assert torch.equal(identify(path, averaged=True).weights["head.weight"], average["head.weight"])
    fold = fold_of(data, tmp_path / "fold", None, (0, 1))
    found = {}
    for name in ("last", "ema"):
        evaluate(fold, path, tmp_path / name, "--test_weights", name)
        found[name] = read_predictions(tmp_path / name / "pred.csv").scores
    assert not np.allclose(found["last"], found["ema"])
    save_model(path, ["right", "down"])
    with pytest.raises(ValueError, match="no averaged weights"):
        evaluate(fold, path, tmp_path / "x", "--test_weights", "ema")


def test_a_contradiction_to_the_file_is_refused(tmp_path):
    path = tmp_path / "c.pth"
    save_model(path, ["right", "down"])
    with pytest.raises(ValueError, match="holds a svfap_tiny_patch8_64, --model says videomae"):
        identify(path, told={"name": "videomae_tiny_patch8_64"})
    assert identify(path, told={"name": "svfap_tiny_patch8_64"}).stated
    with pytest.raises(ValueError, match="2 outputs, but there are 3 names"):
        identify(path, class_names=["a", "b", "c"])
    assert identify(path, class_names=["a", "b"]).labels.class_names == ("a", "b")
    torch.save({"model": models.create_model("pretrain_svfap_tiny_patch8_64").state_dict()}, path)
    with pytest.raises(ValueError, match="pre-trained encoder without a head"):
        identify(path).require_head()


def test_a_checkpoint_knows_the_frame_rate_of_its_videos(tmp_path):
    """Prediction takes clips at that rate, unless it is told another."""
    fold = make_tiny_data(tmp_path / "data")
    argv = [*FINETUNE_FLAGS, "--data_path", str(fold), "--output_dir", str(tmp_path / "run"),
            "--max_steps", "1"]  # fmt: skip
    finetune(parse_flags(finetuning_parser(), argv))
    path = tmp_path / "run" / "checkpoint-last.pth"
    assert identify(path).fps == 25
    content = models.read_checkpoint(path)
    content["clips"]["fps"] = 12.5
    torch.save(content, tmp_path / "slow.pth")
    convert(tmp_path / "slow.pth", tmp_path / "slow.safetensors")
    for name in ("slow.pth", "slow.safetensors"):
        rates = [
            Predictor(
                tmp_path / name, PredictionOptions(crop=False, fps=fps), device="cpu"
            ).options.fps
            for fps in (None, 30.0, 0)
        ]
        assert rates == [12.5, 30, None]


def test_nobody_else_says_what_a_checkpoint_is():
    """Only `identity` reads files of weights; `runtime.checkpoint` to go on with a run, and
    `runtime.origin` to know them again."""
    readers = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "engine").rglob("*.py"))
        if re.search(r"read_checkpoint|guess_config|torch\.load", path.read_text())
    ]
    runtime = [f"engine/runtime/{name}.py" for name in ("checkpoint", "origin")]
    assert readers == ["engine/identity.py", *runtime]

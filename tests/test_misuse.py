"""What people do wrong, and what they are told: one table of commands and messages."""

import os
import re
import subprocess
import sys

import pytest

from svfap.__main__ import modules
from svfap.datasets.labels.annotations import AnnotationError, read_annotations
from svfap.engine import command
from svfap.engine.flags.config import TABLES
from svfap.suggest import did_you_mean
from svfap.terminal import NOBODY_READS
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders and files that are taken for others."""
    folder = tmp_path_factory.mktemp("misuse")
    for name in ("classes/happy/a.mp4", "classes/sad/b.mp4", "folds/split01/train.csv",
                 "fold/train.csv", "fold/test.csv", "listed/info_clean.csv", "videos/a.mp4",
                 "weights.pth", "empty/notes.txt"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "run.yaml").write_text("batchsize: 3\nlr: 1\n")
    return folder


FINE, PRE = "finetuning", "pretraining"
MISUSE = [
    (FINE, "", "missing --data_path"),
    (FINE, "--data_path {p}/fold --data_set dfwe", "unknown data set 'dfwe', did you mean DFEW?"),
    (FINE, "--data_path {p}/fodl", "fodl does not exist, did you mean fold?"),
    (FINE, "--data_path {p}/nowhere/at/all", "at/all does not exist"),
    (FINE, "--data_path {p}/fold/train.csv", "is a file; give the folder that holds train.csv"),
    (FINE, "--data_path {p}/classes", "python -m svfap.preprocess.custom {p}/classes --out"),
    (FINE, "--data_path {p}/folds", "give one fold, such as {p}/folds/split01, or all to"),
    (FINE, "--data_path {p}/empty", "holds no train.csv; python -m svfap.preprocess.custom"),
    (FINE, "--data_path {p}/fold --eval --eval_split val", "holds no val.csv"),
    (FINE, "--data_path {p}/fold --finetune {p}/weight.pth", "did you mean weights.pth?"),
    (FINE, "--data_path {p}/fold --resume {p}/x.pth", "--resume {p}/x.pth does not exist"),
    (FINE, "--data_path {p}/fold --config {p}/run.yaml", "batchsize, did you mean batch_size?"),
    (FINE, "--data_path {p}/fold --layer_decy 1", "--layer_decy, did you mean --layer_decay?"),
    (FINE, "--data_path {p}/fold --lr fast", "argument --lr: invalid float value: 'fast'"),
    (FINE, "--data_path {p}/fold --model svfap_bse_patch16_160", "mean svfap_base_patch16_160?"),
    (FINE, "--data_path {p}/fold --opt adamww", "--opt adamww: unknown, did you mean adamw?"),
    (FINE, "--data_path {p}/fold --input_size 150", "patch_size of 16, of which it must be a mult"),
    (FINE, "--data_path {p}/fold --num_frames 3", "--num_frames 3: svfap_base_patch16_160 has a"),
    (FINE, "--data_path {p}/fold --device gpu", "'gpu' is none of auto, cpu, cuda, cuda:N"),
    (FINE, "--data_path {p}/fold --data_set DFEW --nb_classes 6", "DFEW has 7 (happy, sad, neu"),
    (FINE, "--data_path {p}/fold", "number of classes is unknown: give --nb_classes, a --data_set"),
    (FINE, "--data_path {p}/fold --finetune videomae-bas", "did you mean videomae-base?"),
    (FINE, "--data_path {p}/fold --output_dir {p}/run.yaml", "run.yaml is a file; name a folder"),
    (FINE, "--data_path {p}/fold --data_root {p}/video", "did you mean videos?"),
    (FINE, "--data_path {p}/fold --subjects {p}/subjects.csv", "--subjects {p}/subjects.csv does"),
    (FINE, "--data_path {p}/fold --logger trackio", "pip install trackio (this project's extra"),
    (FINE, "--data_path {p}/fold --logger wanb", "invalid choice: 'wanb'"),
    (FINE, "--data_path {p}/fold --test_weights ema", "--test_weights ema needs --model_ema"),
    (PRE, "", "missing --data_path"),
    (PRE, "--data_path {p}/listed/info_clean.csv --model svfap_base_patch16_160",
     "is no masked autoencoder; take pretrain_svfap_base_patch16_160"),
    (PRE, "--data_path {p}/listed/info_clean.csv --objective contrastiv", "'contrastiv'"),
    (PRE, "--data_path {p}/listed/info_clean.csv --objective contrastive --model "
     "svfap_tiny_patch8_64 --false_negatives remove --descriptor_weights {p}/no.pth", "no.pth do"),
    (PRE, "--data_path {p}/listed/info_clean.csv --color_jitter 1", "not supported in pre-train"),
    (PRE, "--data_path {p}/videos", "python -m svfap.preprocess.videos {p}/videos --out"),
    (PRE, "--data_path {p}/listed", "give the list in it, {p}/listed/info_clean.csv"),
    (PRE, "--data_path {p}/list", "list does not exist, did you mean listed?"),
    (PRE, "--data_path {p}/listed/info_clean.csv --data_set voxceleb", "did you mean voxceleb2"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "argv", "message"), MISUSE)
def test_misuse_is_told_with_what_to_do(place, capsys, monkeypatch, stage, argv, message):
    monkeypatch.setitem(sys.modules, "trackio", None)  # as if it were not installed
    with pytest.raises(SystemExit) as stop:
        command.run_command(stage, argv.format(p=place).split())
    assert stop.value.code == 2
    assert message.format(p=place) in capsys.readouterr().err


START = """import atexit, runpy, sys
sys.argv = {argv!r}
atexit.register(lambda: print("torch" if "torch" in sys.modules else "light"))
runpy.run_path(sys.argv[0], run_name="__main__")"""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run_finetune.py", "--data_path", "nowhere"], "nowhere does not exist"),
        (["run_pretrain.py", "--mask_rato", "1"], "did you mean --mask_ratio?"),
        (["run_predict.py", "nothing.mp4", "--checkpoint", "README.md"], "no such file or folder"),
        (["engine/crossval.py", "--data_path", "x"], "required: --output_dir"),
        (["engine/report/__main__.py", "saved/nothing"], "saved/nothing"),
        (["models/download.py", "svfap-bas"], "svfap-bas"),
        (["run_predict.py", "README.md", "--checkpoint", "no.pth"], "--checkpoint no.pth does not"),
    ],
)
def test_wrong_flags_are_answered_without_pytorch(argv, message):
    result = subprocess.run(
        [sys.executable, "-c", START.format(argv=argv)], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert result.returncode in (1, 2) and message in result.stderr + result.stdout
    assert result.stdout.splitlines()[-1] == "light", result.stdout


def test_labels_that_count_from_one_are_told_from_wrong_ones(tmp_path):
    path, names = tmp_path / "train.csv", ("happy", "sad", "calm")
    options = {"task": "classification", "names": names, "check_paths": False}
    path.write_text("a 1\nb 2\nc 3\n")
    with pytest.raises(AnnotationError, match="labels count from 1") as found:
        read_annotations(path, **options)
    assert len(found.value.problems) == 1 and "take 1 off every label" in str(found.value)
    path.write_text("a 0\nb 2\nc 3\n")
    with pytest.raises(AnnotationError, match="line 3: label 3 is out of range"):
        read_annotations(path, **options)


@pytest.mark.parametrize(
    "start",
    ["import svfap", "import preprocess.custom", "import runpy; runpy.run_path('run_predict.py')"],
)
def test_old_pythons_are_told_which_one_is_needed(start):
    code = f"import sys; sys.version_info = (3, 9, 18); {start}"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "Python 3.10 or newer is needed" in result.stderr


def test_suggestions_know_capitals_and_stay_silent_about_what_is_far():
    assert did_you_mean("ferv39K", ["DFEW", "FERV39k"]) == ", did you mean FERV39k?"
    assert did_you_mean("zzz", ["DFEW"]) == ""


def test_messages_name_flags_that_there_are():
    """No message of the checks before PyTorch speaks of a flag that its program does not have."""
    for stage, argv, message in MISUSE:
        words = [word.strip(",?:") for word in f"{argv} {message}".split()]
        named = {word[2:] for word in words if word.startswith("--")} - {"output_dir", "out"}
        unknown = named - set(TABLES[stage].by_name)
        assert unknown <= {"layer_decy"}, (argv, unknown)


def test_a_training_without_a_place_gets_a_dated_one(tmp_path, monkeypatch):
    """Nobody loses a run for want of a flag; an empty name and evaluations keep nothing."""
    seen = []
    monkeypatch.setattr(command, "_run", lambda stage, flags: seen.append(flags.output_dir) or 0)
    monkeypatch.setattr(command, "check_inputs", lambda *_: None)
    for more in ([], ["--output_dir", ""], ["--output_dir", "a"], ["--eval"], ["--dry_run"]):
        with pytest.raises(SystemExit):
            command.run_command("finetuning", ["--data_path", "x", *more])
    assert re.fullmatch(r"saved/runs/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_finetuning", seen[0])
    assert seen[1:] == ["", "a", "", ""]


@pytest.mark.parametrize(
    "argv",
    [["-m", "svfap"], ["run_finetune.py", "--help"], ["-m", "svfap.preprocess.custom", "-h"]],
)
def test_nobody_reads_on_and_nothing_is_said(argv):
    """As with `| head`: whoever reads has left."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing) as gone:
        result = subprocess.run(
            [sys.executable, *argv], cwd=ROOT, stdout=gone, stderr=subprocess.PIPE, check=False
        )
    outlives = "run_finetune.py" in argv
    assert result.returncode == (0 if outlives else NOBODY_READS) and result.stderr == b""


def test_every_command_minds_who_reads():
    """By what each calls, itself or where its `main` is written."""
    for name, file in modules().items():
        text = file.read_text()
        found = re.search(r"^from (svfap\S+) import .*\b(?:main|run)$", text, re.MULTILINE)
        if found:
            text += (ROOT / f"{found[1].removeprefix('svfap.').replace('.', '/')}.py").read_text()
        assert re.search(r"tells_user\(|as_program\(|run_command\(", text), name

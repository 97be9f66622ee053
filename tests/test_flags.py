"""Flags: released scripts parse, YAML files work, wrong values explain themselves."""

import re
import shlex
import subprocess
import sys

import pytest

from svfap.engine.flags.__main__ import document
from svfap.engine.flags.config import TABLES, finetuning_parser, pretraining_parser
from svfap.engine.flags.flag import CONTENT, FREE, SAME
from svfap.engine.flags.parsing import parse_flags
from tests.conftest import ROOT

PRETRAIN_RECIPE = """--data_path saved/data/voxceleb2/info_clean.csv --mask_type tube
--mask_ratio 0.9 --input_size 160 --model pretrain_svfap_base_patch16_160 --decoder_depth 4
--batch_size 64 --num_samples 1 --num_frames 16 --sampling_rate 4 --opt adamw --opt_betas 0.9 0.95
--warmup_epochs 5 --save_ckpt_freq 10 --epochs 100 --log_dir D --output_dir D --lr 3e-4
--stage_depths 12 6 3 --temporal_kernel_size 2 --num_bottleneck_tokens 8 --num_workers 16"""
FINETUNE_RECIPE = """--model svfap_base_patch16_160 --data_set DFEW --nb_classes 7
--data_path saved/data/dfew/org/split01 --finetune CKPT --log_dir D --output_dir D --batch_size 16
--num_sample 1 --input_size 160 --short_side_size 160 --save_ckpt_freq 1000 --num_frames 16
--sampling_rate 4 --opt adamw --lr 1e-3 --opt_betas 0.9 0.999 --weight_decay 0.05 --epochs 100
--dist_eval --test_num_segment 2 --test_num_crop 2 --stage_depths 12 6 3 --temporal_kernel_size 2
--num_bottleneck_tokens 8 --num_workers 16"""
MAE_DFER_PRETRAIN = """--attn_type local_global --lg_region_size 2 5 10 --mask_type part_window
--part_win_size 2 5 10 --use_frame_diff_as_target --target_diff_weight 0.5 --encoder_depth 16
--model pretrain_videomae_base_dim512_no_depth_patch16_160 --data_path x.csv"""
MAE_DFER_FINETUNE = """--attn_type local_global --lg_region_size 2 5 10 --depth 16
--lg_classify_token_type region --model vit_base_dim512_no_depth_patch16_160 --data_path x
--data_set DFEW"""
OTHER_FLAGS = """--normlize_target True --clip_grad 1 --weight_decay_end 0.1 --warmup_steps 3
--warmup_lr 1e-6 --min_lr 1e-6 --drop_path 0.1 --opt_eps 1e-7 --momentum 0.8 --seed 3 --resume F
--auto_resume --no_auto_resume --start_epoch 2 --device cpu --pin_mem --no_pin_mem
--data_path x.csv --local_rank 0 --dist_on_itp --world_size 1 --dist_url env://"""


def test_pretraining_recipe_parses_to_its_values():
    flags = parse_flags(pretraining_parser(), shlex.split(PRETRAIN_RECIPE))
    assert flags.mask_ratio == 0.9 and flags.lr == 3e-4 and flags.opt_betas == [0.9, 0.95]
    assert flags.stage_depths == [12, 6, 3] and flags.num_bottleneck_tokens == [8]
    assert flags.weight_decay == 0.05 and flags.min_lr == 1e-5 and flags.clip_grad is None


def test_finetuning_recipe_parses_and_has_the_published_defaults():
    flags = parse_flags(finetuning_parser(), shlex.split(FINETUNE_RECIPE))
    assert (flags.layer_decay, flags.drop_path, flags.warmup_epochs) == (0.75, 0.1, 5)
    assert (flags.min_lr, flags.mixup, flags.cutmix, flags.mixup_switch_prob) == (1e-6, 0.8, 1, 0.5)
    assert (flags.smoothing, flags.aa, flags.reprob) == (0.1, "rand-m7-n4-mstd0.5-inc1", 0.25)
    assert flags.opt_betas == [0.9, 0.999] and flags.test_num_segment == 2


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        (pretraining_parser, MAE_DFER_PRETRAIN),
        (finetuning_parser, MAE_DFER_FINETUNE),
        (pretraining_parser, OTHER_FLAGS),
    ],
)
def test_other_released_flags_parse(parser, text):
    flags = parse_flags(parser(), shlex.split(text))
    assert flags.data_path in ("x", "x.csv")
    assert flags.depth == (16 if "depth 16" in text else None)


def test_yaml_file_is_overridden_by_the_command_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("epochs: 7\nlr: 1e-3\nstage_depths: [4, 2, 2]\npin_mem: false\n")
    argv = ["--config", str(path), "--epochs", "9", "--data_path", "x.csv"]
    flags = parse_flags(pretraining_parser(), argv)
    assert (flags.epochs, flags.lr, flags.stage_depths, flags.pin_mem) == (
        9,
        1e-3,
        [4, 2, 2],
        False,
    )
    assert flags.explicit == ["config", "data_path", "epochs", "lr", "pin_mem", "stage_depths"]


def test_yaml_values_are_the_texts_that_they_are(tmp_path):
    """YAML 1.1 would make False of no, 8 of 010, 90 of 1:30 and an error of 1e-3."""
    path = tmp_path / "run.yaml"
    path.write_text("model: no\nseed: 010\nlr: 1e-3\ndata_set: '1:30'\npin_mem: no\nclip_grad: ~\n")
    flags = parse_flags(pretraining_parser(), ["--config", str(path)])
    assert (flags.model, flags.seed, flags.lr, flags.data_set) == ("no", 10, 1e-3, "1:30")
    assert flags.pin_mem is False and flags.clip_grad is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 7", "unknown flags: epoch, did you mean epochs"),
        ("epochs: many", "epochs"),
        ("mask_type: cube", "mask_type 'cube' is not one of .*tube"),
        ("face_window: [1, 2]", "face_window takes 4 values"),
        ("pin_mem: 3", "pin_mem is true or false"),
        ("lr: [1e-3, 5e-4]", r"line 1: lr takes one value, not the list \[1e-3, 5e-4\]"),
        ("lr: {a: 1}", "line 1: expected one value"),
        ("epochs: 3\nlr: .nan", "could not convert string to float: '.nan'"),
        ("epochs: 3\nlr: nan", "--lr nan: must be a finite number"),
        ("epochs: 3\n\tlr: 1", "is not YAML: .*line 2"),
        ("lr: [1e-3", "is not YAML: .*line 1"),
        ("lr: !!python/object:os.system 1", "line 1: tags such as .*os.system"),
        ("lr: !mine 1", "line 1: tags such as !mine"),
        ("lr:", "line 1: lr has no value"),
        ("lr: 1\nepochs: 3\nlr: 2", "given more than once: lr"),
        ("- lr", "expected lines of `flag: value`"),
        ("lr: 1\n---\nlr: 2", "is not YAML"),
        ("[" * 5000, "is not YAML"),
    ],
)
def test_wrong_yaml_names_the_problem(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as found:
        parse_flags(pretraining_parser(), ["--config", str(path)])
    assert str(path) in str(found.value) or "--lr" in str(found.value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batch_size", "0"], "--batch_size 0: must be at least 1"),
        (["--drop_path", "1.5"], "--drop_path 1.5: must lie in 0..1"),
        (["--short_side_size", "224", "--input_size", "160"], "must be equal"),
        (["--fc_drop_rate", "0.5"], "--fc_drop_rate is not supported"),
        (["--test_num_crop", "0"], "--test_num_crop 0: must be at least 1"),
    ],
)
def test_wrong_values_are_refused(argv, message):
    with pytest.raises(ValueError, match=message):
        parse_flags(finetuning_parser(), argv)


def test_unknown_flag_and_missing_data_path_end_with_a_message():
    unknown = _run("run_pretrain.py", "--learning_rate", "3")
    assert unknown.returncode == 2 and "--learning_rate" in unknown.stderr
    missing = _run("run_pretrain.py", "--device", "cpu")
    assert missing.returncode == 2 and "missing --data_path" in missing.stderr
    assert "Traceback" not in missing.stderr


@pytest.mark.parametrize("program", ["run_pretrain.py", "run_finetune.py"])
def test_help_is_grouped_and_tells_defaults(program):
    text = _run(program, "--help").stdout
    for group in ("model:", "optimisation:", "data:", "augmentation:", "run:", "checkpoints:"):
        assert f"\n{group}\n" in text
    assert "(default: 0.05)" in text and "pixels" in text


def _run(*command):
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--mask_rato", "0.5"], "unknown flag: --mask_rato, did you mean --mask_ratio?"),
        (["--zzz", "--batchsize=3"],
         "unknown flags: --zzz; --batchsize, did you mean --batch_size?"),
        (["stray"], "unknown arguments: stray"),
        (["--objective", "gan"], "invalid choice: 'gan'"),
    ],
)  # fmt: skip
def test_wrong_flags_are_told_in_two_lines_with_the_nearest_right_one(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_flags(pretraining_parser(), argv)
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert len(lines) == 2 and message in lines[0] and "--help" in lines[1]


def test_every_flag_has_one_row_that_says_what_it_means_to_a_run_that_goes_on():
    for stage, table in TABLES.items():
        for name, flag in table.by_name.items():
            assert flag.goes_on in (SAME, CONTENT, FREE), (stage, name)
    free = {name for table in TABLES.values() for name, f in table.by_name.items()
            if f.goes_on == FREE}  # fmt: skip
    decisive = {"reader", "val_metric", "test_num_segment", "test_num_crop", "test_weights",
                "average_by", "disable_eval_during_finetuning", "lr", "seed"}  # fmt: skip
    assert not free & decisive and {"device", "num_workers", "print_freq"} <= free


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("name", ["lr", "weight_decay", "opt_betas", "warmup_lr", "clip_grad"])
def test_numbers_are_finite(name, value):
    with pytest.raises(ValueError, match=f"--{name} {value}: must be a finite number"):
        parse_flags(pretraining_parser(), [f"--{name}={value}"])


def test_an_epoch_to_begin_with_lies_in_the_run():
    with pytest.raises(ValueError, match="--start_epoch 5: must be below --epochs"):
        parse_flags(pretraining_parser(), ["--start_epoch", "5", "--epochs", "5"])


def test_flags_stay_as_they_were_given():
    """Of whole runs: tests/test_runs.py."""
    flags = parse_flags(pretraining_parser(), ["--lr", "2"])
    with pytest.raises(AttributeError, match="--lr: flags stay as they were given"):
        flags.lr = 1
    writes = re.compile(r"^\s*\w*flags\.\w+ [-+*/]*= |setattr\(\w*flags", re.MULTILINE)
    for folder in ("engine", "preprocess", "benchmarks", "datasets", "models"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            assert not writes.search(path.read_text()), path


def test_the_document_of_flags_is_what_the_tables_say():
    told = "python -m svfap.engine.flags > docs/flags.md makes it"
    assert (ROOT / "docs" / "flags.md").read_text() == document(), told

"""Scripts run with a stub in place of python, which records how it was called."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from svfap.datasets.catalog import get_spec
from svfap.engine import crossval
from svfap.engine.flags import config, parsing
from tests.conftest import ROOT
from tests.tiny_data import FINETUNE_FLAGS, make_tiny_data

FINETUNING = ("dfew", "ferv39k", "mafw")
STUB = """#!/usr/bin/env python3
import json, os, signal, sys, time
args = sys.argv[1:]
with open(os.environ["STUB_LOG"], "a") as log:
    log.write(json.dumps({"args": args, "cwd": os.getcwd()}) + "\\n")
runs = {"run_pretrain.py", "run_finetune.py", "engine.crossval"}
if "STUB_WAIT" in os.environ and runs & {*args}:
    signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), sys.exit(75)))
    open(os.environ["STUB_WAIT"], "w").close()
    time.sleep(30)
if "run_finetune.py" in args:
    folder = args[args.index("--output_dir") + 1]
    os.makedirs(folder, exist_ok=True)
    open(os.path.join(folder, "metrics.json"), "w").write("{}")
"""


class Stub:
    """A recorded python and the environment to run scripts in."""

    def __init__(self, folder: Path):
        self.root = ROOT
        self.log = folder / "calls.jsonl"
        self.path = folder / "python_stub"
        self.path.write_text(STUB)
        self.path.chmod(0o755)
        for name in ("info_clean.csv", "weights.pth"):
            (folder / name).write_text("x")
        for fold in range(1, 6):
            (folder / "data" / f"split{fold:02d}").mkdir(parents=True)
        self.variables = {
            "PYTHON": str(self.path),
            "STUB_LOG": str(self.log),
            "DATA_PATH": str(folder / "info_clean.csv"),
            "DATA_DIR": str(folder / "data"),
            "PRETRAINED": str(folder / "weights.pth"),
            "OUTPUT_DIR": str(folder / "out"),
            "GPUS": "1",
        }

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, **self.variables, **more}

    def run(self, script: str, *flags: str, status: int = 0, cwd: Path = ROOT, **more: str):
        command = ["bash", str(self.root / script), *flags]
        done = subprocess.run(
            command, env=self.environment(**more), cwd=cwd, capture_output=True, text=True
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def calls(self) -> list[list[str]]:
        if not self.log.exists():
            return []
        lines = self.log.read_text().splitlines()
        return [call for line in lines for call in folds_of(json.loads(line)["args"])]

    def runs(self, *, with_launcher: bool = False) -> list[list[str]]:
        """Arguments of the run_*.py calls, from the program's name on unless `with_launcher`."""
        found = []
        for call in self.calls():
            start = [place for place, arg in enumerate(call) if re.fullmatch(r"run_\w+\.py", arg)]
            if start:
                found.append(call if with_launcher else call[start[0] :])
        return found


def folds_of(call: list[str]) -> list[list[str]]:
    """What `engine.crossval` runs, then itself; any other call as it is."""
    if "engine.crossval" not in call:
        return [call]
    place = call.index("--")
    own, passed_on = crossval._own_flags(call[2:place]), call[place + 1 :]
    many = f"-m torch.distributed.run --standalone --nproc_per_node {own.processes}".split()
    runs = []
    for fold in (f"split{int(number):02d}" for number in own.folds):
        more = [
            "--data_path",
            f"{own.data_path}/{fold}",
            "--output_dir",
            f"{own.output_dir}/{fold}",
        ]
        run = ["run_finetune.py", *(flag.replace("{fold}", fold) for flag in passed_on), *more]
        runs.append([*(many if own.processes > 1 else []), *run, "--log_dir", more[-1]])
    return [*runs, call]


@pytest.fixture
def stub(tmp_path) -> Stub:
    return Stub(tmp_path)


def parse(call: list[str]):
    parsers = {
        "run_pretrain.py": config.pretraining_parser,
        "run_finetune.py": config.finetuning_parser,
    }
    return parsing.parse_flags(parsers[call[0]](), call[1:])


def test_pretraining_recipe_is_the_published_one(stub):
    stub.run("scripts/voxceleb2/pretrain_svfap_base.sh", GPUS="4")
    (call,) = stub.runs()
    flags = parse(call)
    expected = {
        "mask_type": "tube", "mask_ratio": 0.9, "input_size": 160, "decoder_depth": 4,
        "model": "pretrain_svfap_base_patch16_160", "batch_size": 64, "num_samples": 1,
        "num_frames": 16, "sampling_rate": 4, "opt": "adamw", "opt_betas": [0.9, 0.95],
        "warmup_epochs": 5, "save_ckpt_freq": 10, "epochs": 100, "lr": 3e-4,
        "stage_depths": [12, 6, 3], "temporal_kernel_size": 2, "num_workers": 16,
        "num_bottleneck_tokens": [8], "weight_decay": 0.05, "min_lr": 1e-5, "update_freq": 1,
    }  # fmt: skip
    assert {name: getattr(flags, name) for name in expected} == expected
    assert get_spec(flags.data_set).face_window(160) == (0, 32, 160, 160)
    full = stub.calls()[0]
    assert full[:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "4"]


@pytest.mark.parametrize("name", FINETUNING)
def test_finetuning_recipes_are_the_published_ones(stub, name):
    stub.run(f"scripts/{name}/finetune_svfap_base.sh")
    calls = stub.runs()
    assert len(calls) == (1 if name == "ferv39k" else 5)
    expected = {
        "model": "svfap_base_patch16_160", "batch_size": 16, "num_sample": 1, "input_size": 160,
        "short_side_size": 160, "save_ckpt_freq": 1000, "num_frames": 16, "opt": "adamw",
        "sampling_rate": 1 if name == "ferv39k" else 4, "lr": 1e-3, "opt_betas": [0.9, 0.999],
        "weight_decay": 0.05, "epochs": 100, "dist_eval": True, "test_num_segment": 2,
        "test_num_crop": 2, "stage_depths": [12, 6, 3], "temporal_kernel_size": 2,
        "num_bottleneck_tokens": [8], "num_workers": 16, "layer_decay": 0.75, "drop_path": 0.1,
        "nb_classes": 11 if name == "mafw" else 7, "mixup": 0.8, "cutmix": 1.0, "min_lr": 1e-6,
        "smoothing": 0.1, "reprob": 0.25, "aa": "rand-m7-n4-mstd0.5-inc1", "warmup_epochs": 5,
    }  # fmt: skip
    for fold, call in enumerate(calls, start=1):
        flags = parse(call)
        assert {key: getattr(flags, key) for key in expected} == expected
        assert get_spec(flags.data_set).num_classes == flags.nb_classes
        assert get_spec(flags.data_set).sampling_rate == flags.sampling_rate
        assert flags.finetune == stub.variables["PRETRAINED"]
        if name != "ferv39k":
            assert Path(flags.data_path).name == Path(flags.output_dir).name == f"split{fold:02d}"


@pytest.mark.parametrize("name", FINETUNING)
def test_evaluation_scripts(stub, name, tmp_path):
    runs = tmp_path / "runs"
    folds = ["."] if name == "ferv39k" else ["split02", "split04"]
    for fold in folds:
        (runs / fold).mkdir(parents=True)
        (runs / fold / "checkpoint-last.pth").write_text("x")
    output = stub.run(f"scripts/{name}/evaluate_svfap_base.sh", RUNS=str(runs), FOLDS="2 4")
    calls = [parse(call) for call in stub.runs()]
    assert [Path(flags.resume).resolve() for flags in calls] == [
        (runs / fold / "checkpoint-last.pth").resolve() for fold in folds
    ]
    assert all(flags.eval and flags.test_num_segment == 2 for flags in calls)
    last = "engine.summarize" if name == "ferv39k" else "engine.crossval"
    assert stub.calls()[-1][:2] == ["-m", last]
    assert "error" not in output


def test_a_fold_or_split_is_a_run_and_several_are_a_cross_validation(stub):
    stub.run("scripts/finetune.sh", "svfap_base", "dfew", FOLDS="2 5")
    (call,) = stub.calls()[2:]
    assert call[call.index("--folds") + 1 : call.index("--processes")] == ["2", "5"]
    assert [Path(parse(run).output_dir).name for run in stub.runs()] == ["split02", "split05"]
    stub.log.unlink()
    stub.run("scripts/finetune.sh", "svfap_base", "dfew", FOLDS="5")
    run, table = stub.calls()
    assert table == ["-m", "engine.summarize", parse(run).output_dir]
    stub.log.unlink()
    output = stub.run("scripts/finetune.sh", "svfap_base", "dfew", status=1, NNODES="2")
    assert "several machines train one fold at a time" in output and not stub.calls()


def test_dry_run_of_a_recipe_ends_well(tmp_path):
    """With the real program; nothing is written. (Of folds: test_crossval.)"""
    fold, out = make_tiny_data(tmp_path), tmp_path / "out"
    variables = {"PYTHON": sys.executable, "PRETRAINED": "none", "GPUS": "0"}
    variables |= {"DATA_DIR": str(fold), "OUTPUT_DIR": str(out)}
    script = [ROOT / "scripts/finetune.sh", "svfap_base", "custom", *FINETUNE_FLAGS]
    done = subprocess.run(
        ["bash", *script, "--short_side_size", "32", "--dry_run"], cwd=tmp_path,
        env={**os.environ, **variables}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "at its peak" in done.stdout and not out.exists()


def test_wrong_names_say_what_is_allowed_and_suggest(stub):
    def output(*words: str) -> str:
        return stub.run(*words, status=1, PYTHON=sys.executable)

    text = output("scripts/pretrain.sh", "svfap")
    assert "no model 'svfap', did you mean svfap_base? there are: svfap_base maedfer_base" in text
    assert "did you mean dfew?" in output("scripts/finetune.sh", "svfap_base", "dfwe")
    assert "did you mean ferv39k?" in output("scripts/evaluate.sh", "svfap_base", "FERV-39k")
    assert "werewolf_xl lfw" in output("scripts/probe.sh", "svfap_base", "xyz")
    text = output("scripts/finetune.sh", "sslfer_all", "dfew")
    assert "no data set for sslfer_all 'dfew'" in text and "affectnet fer2013" in text
    assert "bash scripts/finetune.sh MODEL DATASET [flags]" in stub.run(
        "scripts/finetune.sh", "svfap_base", status=2
    )
    assert not stub.calls()


def test_recipes_take_more_flags_and_any_working_directory(stub, tmp_path):
    extra = ("--max_steps", "3", "--device", "cpu")
    variables = {"FOLDS": "3", "PRETRAINED": "none", "DATA_ROOT": "/somewhere", "UPDATE_FREQ": "4"}
    stub.run("scripts/mafw/finetune_svfap_base.sh", *extra, cwd=tmp_path, **variables)
    (call,) = stub.runs()
    flags = parse(call)
    assert (flags.max_steps, flags.device, flags.finetune) == (3, "cpu", "")
    assert (flags.data_root, flags.update_freq) == ("/somewhere", 4)
    assert json.loads(stub.log.read_text().splitlines()[0])["cwd"] == str(ROOT)


def test_one_gpu_none_and_several_machines(stub):
    script = "scripts/ferv39k/finetune_svfap_base.sh"
    stub.run(script, OUTPUT_DIR=stub.variables["OUTPUT_DIR"] + "1")
    stub.run(script, OUTPUT_DIR=stub.variables["OUTPUT_DIR"] + "0", GPUS="0")
    stub.run(script, OUTPUT_DIR=stub.variables["OUTPUT_DIR"] + "8", GPUS="4", NNODES="2",
             RDZV_ENDPOINT="host1:29500", RDZV_ID="77")  # fmt: skip
    one, cpu, many = (call for call in stub.calls() if "run_finetune.py" in call)
    assert one[0] == cpu[0] == "run_finetune.py"
    assert parse(one).device == "auto"
    assert parse(cpu).device == "cpu"
    place = many.index("run_finetune.py")
    assert many[:place] == shlex.split(
        "-m torch.distributed.run --nnodes 2 --nproc_per_node 4 --rdzv_backend c10d "
        "--rdzv_id 77 --rdzv_endpoint host1:29500"
    )


def test_missing_inputs_are_explained_before_anything_runs(stub, tmp_path):
    nothing = str(tmp_path / "nothing")
    output = stub.run("scripts/dfew/finetune_svfap_base.sh", status=1, PRETRAINED=nothing)
    assert f"error: {nothing} does not exist; pre-train first" in output
    output = stub.run("scripts/dfew/finetune_svfap_base.sh", status=1, DATA_DIR=nothing)
    assert "python -m preprocess.dfew --dataset_dir" in output
    output = stub.run("scripts/voxceleb2/pretrain_svfap_base.sh", status=1, DATA_PATH=nothing)
    assert "python -m preprocess.voxceleb2 --dataset_dir" in output
    assert stub.runs() == []


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_run_which_leaves_with_75(stub, tmp_path, number):
    started = tmp_path / "started"
    process = subprocess.Popen(
        ["bash", str(ROOT / "scripts/dfew/finetune_svfap_base.sh")],
        env=stub.environment(STUB_WAIT=str(started)),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(started)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 75
    assert "the same command goes on where it stopped" in errors
    assert len(stub.log.read_text().splitlines()) == 1


def write_program(path: Path, text: str) -> None:
    path.write_text("#!/usr/bin/env bash\n" + text)
    path.chmod(0o755)


def slurm_environment(stub: Stub, folder: Path, **more: str) -> dict[str, str]:
    """Stand-ins for srun (runs the step here, hands signals on) and scontrol (records)."""
    programs = folder / "bin"
    programs.mkdir()
    write_program(
        programs / "srun",
        f'echo "$@" >> {folder}/srun.log\nwhile [[ $1 == --* ]]; do shift; done\n'
        '"$@" & child=$!\n'
        "trap 'kill -TERM $child' TERM\nwait $child; status=$?\n"
        "if ((status > 128)); then wait $child; status=$?; fi\nexit $status\n",
    )
    write_program(
        programs / "scontrol",
        f'echo "$@" >> {folder}/scontrol.log\nif [[ $1 == show ]]; then echo node7; fi\n',
    )
    slurm = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "node7",
             "SLURM_JOB_NUM_NODES": "2", "PATH": f"{programs}:{os.environ['PATH']}"}  # fmt: skip
    return stub.environment(**slurm, **more)


def test_slurm_job_runs_the_recipe_on_all_machines(stub, tmp_path):
    environment = slurm_environment(stub, tmp_path, SLURM_ARRAY_TASK_ID="3")
    script = str(ROOT / "scripts/slurm/finetune.sbatch")
    subprocess.run(["bash", script], env=environment, check=True, cwd=tmp_path)
    (call,) = stub.runs()
    assert Path(parse(call).output_dir).name == "split03"
    launcher = stub.calls()[0]
    assert launcher[launcher.index("--nnodes") + 1] == "2"
    assert launcher[launcher.index("--rdzv_endpoint") + 1] == "node7:24711"
    assert "requeue" not in (tmp_path / "scontrol.log").read_text()


def test_slurm_job_is_queued_again_when_told_to_stop(stub, tmp_path):
    started = tmp_path / "started"
    environment = slurm_environment(stub, tmp_path, STUB_WAIT=str(started))
    script = str(ROOT / "scripts/slurm/pretrain.sbatch")
    process = subprocess.Popen(["bash", script], env=environment, cwd=tmp_path)
    wait_for(started)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 75
    assert "requeue 4711" in (tmp_path / "scontrol.log").read_text()
    assert parse(stub.runs()[0]).batch_size == 32


def test_a_job_step_gets_all_cores_of_its_task(stub, tmp_path):
    environment = slurm_environment(stub, tmp_path, SLURM_CPUS_PER_TASK="64")
    script = str(ROOT / "scripts/slurm/pretrain.sbatch")
    subprocess.run(["bash", script], env=environment, check=True, cwd=tmp_path)
    assert "--cpus-per-task=64" in (tmp_path / "srun.log").read_text()


@pytest.mark.parametrize(("model", "clips"), [("svfap", 256), ("maedfer", 160), ("videomae", 160)])
def test_machines_share_the_batch_of_the_recipe(stub, tmp_path, model, clips):
    environment = slurm_environment(stub, tmp_path) | {"GPUS": "4"}
    script = str(ROOT / "scripts/slurm/pretrain.sbatch")
    recipe = f"scripts/voxceleb2/pretrain_{model}_base.sh"
    subprocess.run(["bash", script, recipe], env=environment, check=True, cwd=tmp_path)
    assert parse(stub.runs()[0]).batch_size * 4 * 2 == clips
    text = stub.run(recipe, NNODES="3", RDZV_ID="1", RDZV_ENDPOINT="a:1", status=1)
    assert "set BATCH_SIZE" in text
    stub.run(recipe, NNODES="3", RDZV_ID="1", RDZV_ENDPOINT="a:1", BATCH_SIZE="7")
    assert parse(stub.runs()[-1]).batch_size == 7


def test_array_tasks_are_the_folds_of_any_data_set(stub, tmp_path):
    script = str(ROOT / "scripts/slurm/finetune.sbatch")
    assert "--array=1-6" in Path(script).read_text()
    environment = slurm_environment(stub, tmp_path)
    for name, last in (("ravdess", 6), ("cremad", 5), ("ferv39k", 1)):
        (Path(stub.variables["DATA_DIR"]) / f"split{last:02d}").mkdir(exist_ok=True)
        for task in (last, last + 1):
            here = {"SLURM_ARRAY_TASK_ID": str(task), "OUTPUT_DIR": f"{tmp_path}/{name}"}
            done = subprocess.run(
                ["bash", script, "scripts/finetune.sh", "svfap_base", name], cwd=tmp_path,
                env=environment | here, capture_output=True, text=True, check=True,
            )  # fmt: skip
        assert f"no fold for array task {last + 1}: nothing to do" in done.stdout
        fold = f"{name}/split{last:02d}" if last > 1 else name
        assert parse(stub.runs()[-1]).output_dir == f"{tmp_path}/{fold}"
    assert len(stub.runs()) == 3


def test_the_quick_start_takes_given_processes():
    text = (ROOT / "scripts/quickstart.sh").read_text()
    assert "GPUS=${GPUS:-$(" in text


def test_scripts_are_valid_and_strict():
    scripts = sorted([*ROOT.glob("scripts/**/*.sh"), *ROOT.glob("scripts/**/*.sbatch")])
    assert len(scripts) > 10
    for script in [*scripts, ROOT / ".ci" / "run"]:
        subprocess.run(["bash", "-n", str(script)], check=True)
        strict = "set -euo pipefail" in script.read_text()
        assert strict or script.read_text().splitlines()[1].startswith("exec bash "), script
        assert not re.search(r"(?<![\w.$}])/(home|mnt|data|tmp)/", script.read_text()), script


def test_scripts_leave_alone_what_common_sh_sets():
    """compare.sh once had models of its own in MODELS, which models.sh then set."""
    shared = [ROOT / "scripts" / f"{name}.sh" for name in ("common", "models", "datasets")]
    ours = re.compile(r"^(\w+)(?:=|\(\) \{)", re.MULTILINE)
    sets = {name for path in shared for name in ours.findall(path.read_text())}
    assert {"MODELS", "DATASETS", "use_data", "fail"} <= sets
    theirs = re.compile(r"(?:^|[\s;(])(?:read -ra? )?(\w+)(?:\+?=| ?<<<|\(\) \{)")
    for path in {*(ROOT / "scripts").rglob("*.sh")} - {*shared}:
        known = {"PYTHON", "NUM_SIGNALS"} | ({"usage"} if path.name == "quickstart.sh" else set())
        assert not (sets - known) & {*theirs.findall(path.read_text())}, path


def test_results_of_other_data_are_not_taken_for_these(stub, tmp_path):
    (packed := tmp_path / "out/data/packed/info_clean.csv").parent.mkdir(parents=True)
    packed.write_text("x\n")
    one, other = tmp_path / "one/videos", tmp_path / "other/videos"
    for folder in (one, other):
        folder.mkdir(parents=True)
        (folder / "train.csv").touch()
    argv = ["scripts/adapt.sh", "--weights", str(tmp_path / "weights.pth"), "--output_dir",
            str(tmp_path / "out"), "--videos"]  # fmt: skip
    for labels in ((), (), ("--labels", str(one))):
        stub.run(*argv, f"{one}/" if labels else str(one), *labels)
    assert len(stub.runs()) == 3
    output = stub.run(*argv, str(other), status=1)
    assert f"> videos={other}" in output and "set another --output_dir" in output
    output = stub.run(*argv, str(one), "--labels", str(other), status=1)
    assert f"> labels={other}" in output

    argv = ["scripts/leaderboard.sh", f"a={tmp_path}/weights.pth", "--", "--nb_classes", "2"]
    board = {"OUTPUT_DIR": str(tmp_path / "board"), "PROTOCOLS": "finetune"}
    stub.run(argv[0], str(one), *argv[1:], **board)
    assert stub.runs()[-1][-2:] == argv[-2:] and len(stub.runs()) == 4
    stub.run(argv[0], f"{one}/../videos/", argv[1], **board)
    output = stub.run(argv[0], str(other), *argv[1:], status=1, **board)
    assert f"> DATA_DIR={other}" in output and "set another OUTPUT_DIR" in output
    assert len(stub.runs()) == 5
    stub.run(argv[0], "videos", *argv[1:], cwd=one.parent, **board)
    assert len(stub.runs()) == 6
    (other / "train.csv").unlink()
    output = stub.run(argv[0], str(other), *argv[1:], status=1, **board)
    assert f"{other}/*/train.csv does not exist; make it: see docs/custom_data.md" in output
    assert len(stub.runs()) == 6


def test_folds_of_own_data_are_found(stub, tmp_path):
    stub.run("scripts/finetune.sh", "svfap_base", "custom")
    stub.run("scripts/finetune.sh", "svfap_base", "custom", FOLDS="2")
    places = [call[call.index("--data_path") + 1] for call in stub.runs()]
    assert [place[-7:] for place in places] == [f"split0{n}" for n in (1, 2, 3, 4, 5, 2)]
    (tmp_path / "data/train.csv").touch()
    stub.run("scripts/finetune.sh", "svfap_base", "custom")
    run = stub.runs()[-1]
    assert run[run.index("--data_path") + 1] == str(tmp_path / "data")

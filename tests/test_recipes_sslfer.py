"""Recipes of SSL-FER: one per row of the paper's table, its settings, and the evaluations."""

import os

import pytest

from tests.test_recipes import ROOT, Stub, parse

TIME = {"time_aug": "falling"}
HARD, SWAP = {"hard_negatives": True}, {"face_swap": 0.8}
MASK = {"false_negatives": "promote", "false_negative_weight": 0.8, "descriptor": "resnet18"}
ROWS = {
    "simclr": {},
    "timeaug": TIME,
    "timeaug_hardneg": TIME | HARD,
    "timeaug_hardneg_cutmix": TIME | HARD | {"cutmix": 1.0},
    "timeaug_faceswap_maskfn": TIME | SWAP | MASK,
    "timeaug_hardneg_faceswap": TIME | HARD | SWAP,
    "timeaug_hardneg_maskfn": TIME | HARD | MASK,
    "all": TIME | HARD | SWAP | MASK,
}
OFF = {"time_aug": "none", "hard_negatives": False, "face_swap": 0.0, "cutmix": 0.0,
       "false_negatives": "none"}  # fmt: skip


def test_a_recipe_for_every_row():
    names = {path.name for path in ROOT.glob("scripts/voxceleb1/*.sh")}
    assert names == {f"pretrain_sslfer_{row}.sh" for row in ROWS}
    for name in names:
        assert os.access(ROOT / "scripts/voxceleb1" / name, os.X_OK)


@pytest.mark.parametrize("row", ROWS)
def test_rows_have_the_papers_settings(tmp_path, row):
    stub = Stub(tmp_path)
    stub.run(f"scripts/voxceleb1/pretrain_sslfer_{row}.sh", "--seed", "7")
    (call,) = stub.runs()
    flags = parse(call)
    expected = OFF | ROWS[row] | {
        "objective": "contrastive", "model": "timm/resnet50", "input_size": 112, "num_frames": 1,
        "batch_size": 256, "opt": "adam", "lr": 3e-4, "weight_decay": 1e-4, "warmup_epochs": 10,
        "temperature": 0.07, "projection_dim": 128, "part_mask": 0.8, "min_lr": 0.0, "seed": 7,
        "epochs": 500 if "face_swap" in ROWS[row] else 300,
    }  # fmt: skip
    assert {name: getattr(flags, name) for name in expected} == expected


def test_variables(tmp_path):
    stub = Stub(tmp_path)
    script = "scripts/voxceleb1/pretrain_sslfer_all.sh"
    more = {"DESCRIPTOR": "hog", "LANDMARKS": "marks", "GPUS": "2", "OUTPUT_DIR": "out",
            "DATA_ROOT": "a b"}  # fmt: skip
    stub.run(script, **more)
    flags = parse(stub.runs()[0])
    assert (flags.descriptor, flags.landmarks, flags.batch_size) == ("hog", "marks", 128)
    assert flags.data_root == "a b"
    assert "--nproc_per_node" in stub.calls()[0]
    nothing = str(tmp_path / "nothing")
    output = stub.run(script, status=1, DATA_PATH=nothing)
    assert "python -m preprocess.voxceleb1 --dataset_dir" in output


@pytest.mark.parametrize("name", ["affectnet", "fer2013"])
def test_evaluations(tmp_path, name):
    stub = Stub(tmp_path)
    output = stub.run(f"scripts/{name}/probe_sslfer.sh", status=1)
    assert f"python -m preprocess.{name} --dataset_dir DIR" in output
    (tmp_path / "data" / "train.csv").write_text("x")
    stub.run(f"scripts/{name}/probe_sslfer.sh", "--device", "cpu", DATA_ROOT="root")
    probe = stub.calls()[0]
    assert probe[:3] == ["-m", "engine.probe", str(tmp_path / "weights.pth")]
    assert probe[probe.index("--output") + 1] == str(tmp_path / "out" / "sslfer_all.json")
    assert probe[-2:] == ["--device", "cpu"]
    assert probe[probe.index("--") + 1 :][:2] == ["--data_root", "root"]
    stub.run(f"scripts/{name}/finetune_sslfer.sh", DATA_ROOT="root")
    flags = parse(stub.runs()[0])
    assert flags.data_root == "root"
    assert flags.finetune == str(tmp_path / "weights.pth")
    assert (flags.model, flags.input_size, flags.num_frames) == ("timm/resnet50", 112, 1)
    assert (flags.mixup, flags.cutmix, flags.smoothing, flags.data_set) == (0, 0, 0, "custom")
    stub.run(
        f"scripts/{name}/finetune_sslfer.sh", PRETRAINED="none", OUTPUT_DIR=str(tmp_path / "s")
    )
    assert parse(stub.runs()[1]).finetune == ""


def test_verification(tmp_path):
    stub = Stub(tmp_path)
    assert "preprocess.lfw" in stub.run("scripts/lfw/verify_sslfer.sh", status=1)
    (tmp_path / "data" / "pairs.csv").write_text("x")
    stub.run("scripts/lfw/verify_sslfer.sh", ROW="simclr")
    call = stub.calls()[0]
    assert call[:3] == ["-m", "engine.verify_faces", str(tmp_path / "weights.pth")]
    assert call[call.index("--output") + 1] == str(tmp_path / "out" / "sslfer_simclr.json")
    stub.run("scripts/lfw/verify_sslfer.sh")
    call = stub.calls()[1]
    assert call[call.index("--output") + 1] == str(tmp_path / "out" / "sslfer_all.json")
    for weights in ("gone.pth", "none"):
        output = stub.run("scripts/lfw/verify_sslfer.sh", status=1, PRETRAINED=weights)
        assert f"{weights} does not exist; pre-train first" in output


def test_comparison_gives_every_row_equally_many_steps(tmp_path):
    stub = Stub(tmp_path)
    stub.run(
        "scripts/synthetic/compare_sslfer.sh",
        SEEDS="3",
        STEPS="10",
        JOBS="1",
        BATCH="8",
        NUM_CLIPS="12",
        status=1,
    )  # fmt: skip - ends where no table is written
    calls = [parse(call) for call in stub.runs()]
    found = {os.path.basename(os.path.dirname(f.output_dir)): f for f in calls}
    assert list(found) == [
        "untrained", "simclr", "timeaug", "timeaug_hardneg", "timeaug_faceswap", "timeaug_maskfn",
        "all",
    ]  # fmt: skip
    assert found.pop("untrained").max_steps == 1
    for name, flags in found.items():
        assert (flags.max_steps, flags.batch_size, flags.seed) == (10, 8, 3)
        # an epoch of 12 clips has 2 steps of 8 pairs, with hard negatives 3 of 4 clips
        assert flags.epochs == (4 if flags.hard_negatives else 5)
        for key in ("time_aug", "hard_negatives", "face_swap", "false_negatives"):
            assert getattr(flags, key) == (OFF | ROWS.get(name, {}) | _only(name)).get(key)
    modules = [call[1] for call in stub.calls() if call[0] == "-m"]
    assert modules.count("preprocess.synthetic") == 2
    assert modules.count("engine.probe_table") == 2


def _only(name: str) -> dict:
    parts = {"timeaug_faceswap": TIME | SWAP, "timeaug_maskfn": TIME | MASK}
    return parts.get(name, {})

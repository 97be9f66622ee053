"""Whole commands on a GPU that computes nothing: nothing stays on the host, no step waits."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from svfap.datasets.labels.classes import LabelNames
from svfap.engine import loop
from svfap.engine.finetuning import finetune
from svfap.engine.flags.config import finetuning_parser, pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.predict.predictor import PredictionOptions, Predictor
from svfap.engine.pretraining import pretrain
from svfap.engine.probe.command import run_probe
from svfap.engine.runtime import checkpoint
from svfap.engine.runtime.distributed import Workers
from tests import test_contrastive_runs as contrastive
from tests.fake_cuda import CUDA, fake_cuda
from tests.test_task_runs import FLAGS as TASK_FLAGS
from tests.test_task_runs import HEADS, make_fold
from tests.tiny_data import FINETUNE_FLAGS, PRETRAIN_FLAGS

ONE_BLOCK = ["--stage_depths", "1", "1", "1"]
SHORT = [*ONE_BLOCK, "--device", "cuda", "--epochs", "1", "--max_steps", "2"]
PRETRAINING = {
    "bf16, pictures": ["--visualize", "1"],
    "fp16, clipping, recomputing": ["--amp", "fp16", "--clip_grad", "1", "--use_checkpoint"],
    "accumulated, part decoded": ["--batch_size", "2", "--update_freq", "2", "--merge_batches",
                                  "never", "--decoder_mask_share", "0.5"],
    "merged, resized by the loader": ["--batch_size", "2", "--update_freq", "2", "--resize_on",
                                      "loader", "--num_samples", "2"],
    "float32": ["--amp", "off"],
}  # fmt: skip
FINETUNING = {
    "features": ["--save_feature"],
    "average, fp16": ["--model_ema", "--amp", "fp16", "--clip_grad", "1", "--test_weights", "ema"],
    "mixed one by one, balanced loss": ["--mixup_mode", "elem", "--class_balanced", "loss"],
    "mixed in pairs, accumulated": ["--mixup_mode", "pair", "--cutmix_minmax", "0.2", "0.8",
                                    "--update_freq", "2", "--test_weights", "best"],
    "not mixed, balanced loss, sgd": ["--mixup", "0", "--cutmix", "0", "--class_balanced", "loss",
                                      "--opt", "sgd", "--amp", "fp16", "--remode", "const"],
    "an optimizer of timm": ["--opt", "lion", "--num_sample", "2", "--reprob", "1"],
}  # fmt: skip
TASKS = {
    "regression": ("{0:g} {1:g}", {"class_names": ("valence", "arousal")},
                   ["--regression_loss", "mse+ccc", "--head_activation_func", "tanh"]),
    "class_and_values": ("{2} {0:g}", {"class_names": ("face", "valence"),
                                       "heads": {"face": ("right", "down")}}, []),
    "multihead": ("{2} {3}", {"class_names": tuple(HEADS), "heads": HEADS}, []),
}  # fmt: skip
PAIRS = {
    "images": [*contrastive.IMAGES, *contrastive.TIME, *contrastive.HARD, *contrastive.SWAP,
               *contrastive.PROMOTE, *contrastive.PARTS],
    "images, everything": [*contrastive.IMAGES, *contrastive.ROWS["everything"]],
    "clips": [*contrastive.CLIPS, *contrastive.TIME, *contrastive.CUTMIX, "--amp", "fp16"],
}  # fmt: skip

faces = contrastive.data  # tiny videos with landmarks, and a fold


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawn in seconds and tested elsewhere; they know nothing of devices."""
    for name in ("plot_training", "plot_confusion_matrices"):
        monkeypatch.setattr(f"engine.report.plots.{name}", lambda *_: None)


@pytest.fixture
def gpu(monkeypatch):
    with fake_cuda() as device:
        monkeypatch.setattr(loop, "optimizer_step", device.as_step(loop.optimizer_step))
        yield device


@pytest.fixture
def two_processes(monkeypatch):
    """The first of two whose other one sends zeros; DistributedDataParallel itself needs CUDA."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    workers = Workers(rank=0, local_rank=0, world_size=2, device=CUDA)
    monkeypatch.setattr("engine.runtime.distributed.start", lambda device: workers)
    monkeypatch.setattr(Workers, "gather", lambda self, value: [value] * 2)
    name = "engine.compute.parallel.DistributedDataParallel"
    monkeypatch.setattr(name, lambda step, **options: step)
    yield
    dist.destroy_process_group()


def pretrain_on_gpu(faces, out, *flags):
    argv = [*flags, "--data_path", str(faces / "pretrain.csv"), "--output_dir", str(out)]
    pretrain(parse_flags(pretraining_parser(), argv))
    return out / checkpoint.LAST


def finetune_on_gpu(fold, out, *flags):
    argv = [*flags, "--data_path", str(fold), "--output_dir", str(out)]
    return finetune(parse_flags(finetuning_parser(), argv))


@pytest.mark.parametrize("name", PRETRAINING)
def test_masked_pretraining(faces, tmp_path, gpu, name):
    path = pretrain_on_gpu(faces, tmp_path, *PRETRAIN_FLAGS, *SHORT, *PRETRAINING[name])
    assert set(torch.load(path)["model"]) and len(list(tmp_path.glob("reconstructions/*.png"))) == (
        "--visualize" in PRETRAINING[name]
    )


def test_a_run_reads_back_only_where_it_reports(faces, tmp_path, gpu):
    """Twice the steps, the same number of waits."""
    counts = []
    for steps in ("2", "4"):
        gpu.reads = 0
        flags = [*PRETRAIN_FLAGS, *SHORT, "--batch_size", "2", "--max_steps", steps]
        pretrain_on_gpu(faces, tmp_path / steps, *flags)
        counts.append(gpu.reads)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", PAIRS)
def test_contrastive_pretraining(faces, tmp_path, gpu, name):
    pretrain_on_gpu(faces, tmp_path, *PAIRS[name], "--device", "cuda", "--max_steps", "2")


@pytest.mark.parametrize(
    "flags",
    [[*PRETRAIN_FLAGS, *SHORT, "--batch_size", "2"], [*PAIRS["clips"], "--device", "cuda"]],
    ids=["masked", "contrastive"],
)
def test_two_processes(faces, tmp_path, two_processes, gpu, flags):
    pretrain_on_gpu(faces, tmp_path, *flags, "--max_steps", "2", "--no_save_ckpt")


@pytest.mark.parametrize("name", FINETUNING)
def test_finetuning_validation_and_test(faces, tmp_path, gpu, name):
    flags = [*FINETUNE_FLAGS, *SHORT, *FINETUNING[name]]
    assert finetune_on_gpu(faces / "fold", tmp_path, *flags)["num_videos"] == 5


@pytest.mark.parametrize("name", TASKS)
def test_other_tasks(faces, tmp_path, gpu, name):
    text, names, flags = TASKS[name]
    labels = [text.format(0.1 * i, 1 - 0.1 * i, i % 2, i % 3) for i in range(10)]
    videos = sorted((faces / "videos").glob("*.mp4"))
    fold = make_fold(tmp_path / "fold", videos, labels, LabelNames(task=name, **names))
    finetune_on_gpu(fold, tmp_path / "run", *TASK_FLAGS, *SHORT, *flags)


def test_labels_of_every_frame(faces, tmp_path, gpu):
    videos = sorted((faces / "videos").glob("*.mp4"))
    for number, video in enumerate(videos):
        np.savez(tmp_path / f"{video.stem}.npz", valence=np.zeros(30 + 3 * number))
    labels = [tmp_path / f"{video.stem}.npz" for video in videos]
    names = LabelNames(task="regression_frames", class_names=("valence",))
    fold = make_fold(tmp_path / "fold", videos, labels, names)
    flags = [*TASK_FLAGS, *SHORT, "--regression_loss", "ccc"]
    assert finetune_on_gpu(fold, tmp_path / "run", *flags)["num_frames"] == 255


def test_what_follows_a_run(faces, tmp_path, gpu):
    """Going on, evaluating, probing and predicting from its checkpoint."""
    flags = [*FINETUNE_FLAGS, *SHORT, "--model_ema", "--disable_eval_during_finetuning"]
    finetune_on_gpu(faces / "fold", tmp_path, *flags, "--max_steps", "1")
    finetune_on_gpu(faces / "fold", tmp_path, *flags)
    given = ["--device", "cuda", "--num_workers", "0"]
    assert finetune_on_gpu(faces / "fold", tmp_path, *given, "--eval")["num_videos"] == 5
    probing = parse_flags(finetuning_parser(), [*given, "--data_path", str(faces / "fold"),
                                                "--nb_classes", "2"])  # fmt: skip
    assert run_probe(tmp_path / checkpoint.LAST, probing, neighbours=2)["num_test"] == 5
    predictor = Predictor(tmp_path / checkpoint.LAST, PredictionOptions(crop=False), device="cuda")
    assert len(predictor.predict(faces / "videos" / "clip00.mp4").tracks) == 1


def test_probing_during_pretraining(faces, tmp_path, gpu):
    probe = ["--probe_every", "1", "--probe_path", str(faces / "fold"), "--probe_data_set", "DFEW"]
    pretrain_on_gpu(faces, tmp_path, *PRETRAIN_FLAGS, *SHORT, *probe)

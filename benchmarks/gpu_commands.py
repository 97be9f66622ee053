"""The commands of the README in a small size, for `benchmarks.gpu_check`."""

import importlib.util
import sys
from pathlib import Path

from benchmarks.jobs import Job

CLIPS = ["--patch_size", "16", "--num_frames", "8", "--sampling_rate", "4", "--num_workers", "2",
         "--no_report"]  # fmt: skip
GRAPHS = ["--compile", "--compile_mode", "reduce-overhead"]
# Of the quick start, so that it takes a minute.
QUICK = {"NUM_PRETRAIN_VIDEOS": "16", "NUM_VIDEOS": "42", "NUM_IDENTITIES": "10",
         "PRETRAIN_EPOCHS": "2", "FINETUNE_EPOCHS": "2", "PRETRAIN_BATCH": "8",
         "FINETUNE_BATCH": "8", "NUM_PICTURES": "2", "VENV": "none"}  # fmt: skip


class Commands:
    """Jobs on drawn faces, which the first three make."""

    def __init__(self, folder: Path, device: str):
        self.folder, self.device = folder, device
        self.fold = folder / "dfew" / "split01"
        self.videos = folder / "voxceleb2" / "info_clean.csv"
        self.store = folder / "store"

    def all(self) -> list[Job]:
        """Every job, the long ones first."""
        return [*self.data(), self.quick_start(), *self.compiled(), *self.pretraining(),
                *self.finetuning(), *self.afterwards(), *self.going_on()]  # fmt: skip

    def quick_start(self) -> Job:
        """As a user starts it, in this environment."""
        environment = QUICK | {"PYTHON": sys.executable}
        command = ["bash", "scripts/quickstart.sh", "--output_dir", str(self.folder / "quick")]
        if self.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        return Job(name="quickstart", command=command, environment=environment)

    def data(self) -> list[Job]:
        """Drawn faces, their lists, and a packed store."""
        drawn, lists = self.folder / "synthetic", ["--allow_other_counts"]
        return [
            _module("draw", "preprocess.synthetic", "--output_dir", drawn, "--num_pretrain_videos",
                    24, "--num_labelled_videos", 70, "--num_identities", 20, "--num_folds", 5,
                    "--max_frames", 32, "--size", 112),
            _module("list_unlabelled", "preprocess.voxceleb2", "--dataset_dir",
                    drawn / "voxceleb2", "--output_dir", self.videos.parent, *lists,
                    after=["draw"]),
            _module("list_labelled", "preprocess.dfew", "--dataset_dir", drawn / "dfew",
                    "--output_dir", self.fold.parent, *lists, "--val_fraction", 0.1,
                    after=["draw"]),
            _module("pack", "preprocess.pack", self.videos, "--output_dir", self.store,
                    "--face_window", 0, 16, 80, 80, after=["list_unlabelled"]),
        ]  # fmt: skip

    def pretrain(self, name: str, *more, model: str = "svfap", **options) -> Job:
        """A pre-training run of two epochs."""
        options = {"after": ["list_unlabelled"], **options}
        return _program(
            name, "run_pretrain.py", "--model", f"pretrain_{model}_tiny_patch8_64", "--data_path",
            self.videos, "--face_window", 0, 16, 80, 80, *CLIPS, "--warmup_epochs", 1,
            "--mask_ratio", 0.75, "--batch_size", 8, "--epochs", 2, "--device", self.device,
            "--output_dir", self.folder / name, *more, **options,
        )  # fmt: skip

    def finetune(self, name: str, *more, model: str = "svfap", **options) -> Job:
        """A fine-tuning run of two epochs, with its test."""
        options = {"after": ["list_labelled"], **options}
        return _program(
            name, "run_finetune.py", "--model", f"{model}_tiny_patch8_64", "--data_set",
            "synthetic", "--data_path", self.fold, *CLIPS, "--warmup_epochs", 1, "--batch_size", 8,
            "--epochs", 2, "--device", self.device, "--output_dir", self.folder / name, *more,
            **options,
        )  # fmt: skip

    def compiled(self) -> list[Job]:
        """Compiling takes longest, so these begin first."""
        return [
            self.pretrain("pre_compiled", "--compile"),
            self.pretrain("pre_graphs", *GRAPHS),
            self.finetune("fine_compiled", "--compile"),
            self.finetune("fine_graphs", *GRAPHS),
        ]

    def pretraining(self) -> list[Job]:
        """Every objective, model and way of making a step."""
        labelled = ["--probe_path", self.fold, "--probe_data_set", "synthetic"]
        accumulated = ["--batch_size", 2, "--update_freq", 4]
        landmarks = self.folder / "synthetic" / "voxceleb2" / "annotation"
        return [
            self.pretrain("pre", "--visualize", 1),
            self.pretrain("pre_fp16", "--amp", "fp16", "--clip_grad", 1)
            if self.device != "cpu" else self.pretrain("pre_bf16", "--amp", "bf16"),
            self.pretrain("pre_merged", *accumulated),
            self.pretrain("pre_apart", *accumulated, "--merge_batches", "never"),
            self.pretrain("pre_part", "--decoder_mask_share", 0.5, "--use_checkpoint"),
            self.pretrain("pre_loader", "--resize_on", "loader", "--num_samples", 2),
            self.pretrain("pre_store", "--data_path", self.store / self.videos.name,
                          after=["pack"]),
            self.pretrain("pre_maedfer", "--use_frame_diff_as_target", model="maedfer"),
            self.pretrain("pre_videomae", model="videomae"),
            self.pretrain("pre_probe", "--probe_every", 1, *labelled,
                          after=["list_unlabelled", "list_labelled"]),
            _program("pre_contrastive", "run_pretrain.py", "--objective", "contrastive", "--model",
                     "timm/test_resnet", "--input_size", 64, "--data_path", self.videos,
                     "--face_window", 0, 16, 80, 80, "--landmarks", landmarks, "--batch_size", 8,
                     "--epochs", 2, "--max_steps", 4, "--time_aug", "falling", "--time_interval",
                     0.1, 0.4, "--face_swap", 0.8, "--false_negatives", "promote", "--descriptor",
                     "hog", "--part_mask", 0.8, "--num_workers", 2, "--warmup_epochs", 0,
                     "--no_report", "--device", self.device, "--output_dir",
                     self.folder / "pre_contrastive", after=["list_unlabelled"]),
        ]  # fmt: skip

    def finetuning(self) -> list[Job]:
        """From pre-trained weights and from random ones."""
        half = "fp16" if self.device != "cpu" else "bf16"
        weights = self.folder / "pre" / "checkpoint-last.pth"
        single = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
        plain = self.finetune("fine_torchrun").command
        return [
            self.finetune("fine", "--finetune", weights, "--save_feature",
                          after=["pre", "list_labelled"]),
            self.finetune("fine_average", "--amp", half, "--model_ema", "--test_weights", "ema"),
            self.finetune("fine_elem", "--mixup_mode", "elem", "--class_balanced", "loss",
                          "--update_freq", 2, "--opt", "sgd"),
            self.finetune("fine_best", "--amp", "off", "--test_weights", "best"),
            self.finetune("fine_maedfer", model="maedfer"),
            self.finetune("fine_lion", "--opt", "lion", "--aa", "none"),
            Job(name="fine_torchrun", command=[plain[0], *single, *plain[1:]],
                after=["list_labelled"]),
        ]  # fmt: skip

    def afterwards(self) -> list[Job]:
        """What is done with a fine-tuned model."""
        weights = self.folder / "fine" / "checkpoint-last.pth"
        own = ["--data_path", self.fold, "--device", self.device]
        video = self.folder / "synthetic" / "voxceleb2" / "dev" / "mp4"
        target = ".onnx" if importlib.util.find_spec("onnxscript") else ".pt2"
        last = {"after": ["fine"]}
        return [
            _program("evaluate", "run_finetune.py", "--eval", *own, "--output_dir",
                     self.folder / "fine", "--no_report", **last),
            _program("predict", "run_predict.py", video, "--checkpoint", weights, "--output_dir",
                     self.folder / "predictions", "--no_crop", "--device", self.device, **last),
            _module("export", "engine.export", "--checkpoint", weights, "--output",
                    self.folder / f"exported{target}", **last),
            _module("verify", "engine.verify_checkpoint", weights, **last),
            _module("probe", "engine.probe", self.folder / "pre" / "checkpoint-last.pth",
                    "--data_set", "synthetic", *own[:2], "--", *own[2:],
                    after=["pre", "list_labelled"]),
            _module("report", "engine.report", self.folder / "fine", after=["evaluate"]),
            _module("summarize", "engine.summarize", self.folder / "fine", after=["evaluate"]),
            _module("compare", "engine.compare", self.folder / "fine", self.folder / "fine_elem",
                    after=["evaluate", "fine_elem"]),
        ]  # fmt: skip

    def going_on(self) -> list[Job]:
        """A run that is killed, and the same command again."""
        often = ["--save_every_minutes", 0, "--print_freq", 1]
        saved = self.folder / "pre_killed" / "checkpoint-last.pth"
        return [
            self.pretrain("killed", *often, "--epochs", 50, "--output_dir", saved.parent,
                          kill_at=saved),
            self.pretrain("resumed", *often, "--epochs", 50, "--max_steps", 12, "--output_dir",
                          saved.parent, after=["killed"]),
        ]  # fmt: skip


def _program(name: str, *arguments, **options) -> Job:
    return Job(name=name, command=[sys.executable, *map(str, arguments)], **options)


def _module(name: str, module: str, *arguments, **options) -> Job:
    return _program(name, "-m", module, *arguments, **options)

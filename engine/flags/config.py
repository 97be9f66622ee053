"""Command line flags and their groups; `engine.flags.parsing` reads and checks them.

Flag names and meanings follow the released scripts (SVFAP, MAE-DFER, VideoMAE), so that scripts
users already have keep parsing; what is new is marked so in docs and CHANGELOG.
"""

import argparse

from engine.flags.contrastive import CONTRASTIVE_DEFAULTS, add_contrastive_flags
from engine.flags.flag_parser import Parser, boolean, share
from engine.flags.shared import (
    add_data_flags,
    add_model_flags,
    add_optimisation_flags,
    add_run_flags,
)

# What the best weights may be chosen by.
VALIDATION_METRICS = (
    *("uar", "war", "acc1", "weighted_f1", "micro_f1", "macro_f1"),
    *("loss", "ccc", "pcc", "mae", "rmse"),
)
# Flags that only masked autoencoding has a use for.
MASKING_FLAGS = (
    "mask_type", "mask_ratio", "part_win_size", "part_apply_symmetry", "decoder_mask_share",
    "decoder_depth", "lg_restore_order", "normlize_target", "use_frame_diff_as_target",
    "target_diff_weight", "frame_diff_group_size", "num_samples", "short_clip_frames",
    "short_clip_epochs", "resize_on", "merge_batches",
)  # fmt: skip


def pretraining_parser() -> Parser:
    """Parser of `run_pretrain.py` (recipes: SVFAP Sec. 4.1.2)."""
    parser = Parser(
        "run_pretrain.py",
        description="Pre-train an encoder on face video without labels.",
    )
    parser.add_argument(
        "--objective",
        choices=("mae", "contrastive"),
        default="mae",
        help="masked autoencoding, or contrastive learning (SSL-FER), which has other defaults: "
        + ", ".join(f"--{name} {value}" for name, value in CONTRASTIVE_DEFAULTS.items()),
    )
    add_model_flags(parser, default_model="pretrain_svfap_base_patch16_160", drop_path=0.0)
    _add_masking_flags(parser)
    add_contrastive_flags(parser)
    add_optimisation_flags(parser, lr=1.5e-4, min_lr=1e-5, betas=[0.9, 0.95], batch_size=64)
    add_data_flags(parser, stage="pretrain")
    _add_pretraining_augmentation(parser)
    add_run_flags(parser)
    parser.add_argument_group("pictures").add_argument(
        "--visualize",
        type=int,
        default=4,
        metavar="N",
        help="reconstructions of N videos at the end",
    )
    _add_probe_flags(parser)
    return parser


def _add_masking_flags(parser: Parser) -> None:
    group = parser.add_argument_group("masked autoencoding")
    group.add_argument("--decoder_depth", type=int, default=None, help="blocks in the decoder")
    group.add_argument(
        "--mask_type",
        choices=("tube", "random", "part_window"),
        help="default: tube; for LGI-Former part_window",
    )
    group.add_argument("--mask_ratio", type=float, default=0.9, help="hidden share, 0..1")
    group.add_argument(
        "--lg_restore_order",
        action="store_true",
        help="LGI-Former hands tokens to the decoder in their own order (docs/reproduction.md)",
    )
    group.add_argument(
        "--part_win_size",
        type=int,
        nargs=3,
        metavar="N",
        help="tokens per window of part_window, t h w (default: the LGI-Former's regions)",
    )
    group.add_argument(
        "--part_apply_symmetry", choices=("global", "local"), help="show one half of the face only"
    )
    group.add_argument(
        "--decoder_mask_share",
        type=share,
        default=1.0,
        metavar="SHARE",
        help="share of the masked tokens that is decoded; below 1 changes the recipe, for speed",
    )
    group.add_argument(
        "--short_clip_frames",
        type=int,
        nargs="+",
        metavar="N",
        help="progressive clip length: frames per clip in the first epochs, one number for each "
        "phase of --short_clip_epochs; --num_frames after these; changes the recipe, for speed",
    )
    group.add_argument(
        "--short_clip_epochs", type=int, nargs="+", metavar="N", help="epochs of each such phase"
    )
    group.add_argument(
        "--normlize_target",
        type=boolean,
        nargs="?",
        const=True,
        default=True,
        metavar="BOOL",
        help="normalise each target tubelet per colour channel",
    )
    group.add_argument(
        "--use_frame_diff_as_target", action="store_true", help="predict appearance and motion"
    )
    group.add_argument(
        "--target_diff_weight", type=float, help="share of motion in the loss, 0..1 (default: 0.5)"
    )
    group.add_argument(
        "--frame_diff_group_size",
        type=int,
        default=2,
        help="frames whose differences are to the first of them",
    )
    group.add_argument(
        "--merge_batches",
        choices=("auto", "always", "never"),
        default="auto",
        help="compute the batches of --update_freq together, for speed; the updates stay the same; "
        "auto: on a GPU, as many as fit into its memory",
    )


def _add_pretraining_augmentation(parser: Parser) -> None:
    augment = parser.add_argument_group("augmentation")
    augment.add_argument(
        "--num_samples", "--num_sample", type=int, default=1, help="clips per decoded video"
    )
    augment.add_argument(
        "--resize_on",
        choices=("auto", "loader", "device"),
        default="auto",
        help="where crops are enlarged; auto: on a GPU if there is one, to spare the loader",
    )
    augment.add_argument("--color_jitter", type=float, default=0.0, help="only 0 is supported")
    augment.add_argument(
        "--train_interpolation",
        choices=("bilinear", "bicubic"),
        default="bicubic",
        help=argparse.SUPPRESS,
    )


def _add_probe_flags(parser: Parser) -> None:
    probe = parser.add_argument_group("probe of the frozen encoder")
    probe.add_argument(
        "--probe_every",
        type=int,
        default=0,
        metavar="EPOCHS",
        help="epochs between two linear probes and k-NN votes on its features; 0 = none",
    )
    probe.add_argument("--probe_path", metavar="DIR", help="folder with train.csv and test.csv")
    probe.add_argument("--probe_data_set", metavar="NAME", help="data set of --probe_path")


def finetuning_parser() -> Parser:
    """Parser of `run_finetune.py` (recipes: SVFAP Sec. 4.2)."""
    parser = Parser(
        "run_finetune.py",
        description="Fine-tune a pre-trained encoder on labelled face video, or evaluate it.",
    )
    add_model_flags(parser, default_model="svfap_base_patch16_160", drop_path=0.1)
    group = parser.add_argument_group("fine-tuning")
    group.add_argument("--finetune", default="", metavar="FILE", help="pre-trained weights")
    group.add_argument("--nb_classes", type=int, help="classes (default: the data set's)")
    group.add_argument("--layer_decay", type=float, default=0.75, help="rate factor per layer")
    group.add_argument(
        "--head_activation_func",
        choices=("none", "sigmoid", "relu", "tanh"),
        help="after the head (default: none)",
    )
    group.add_argument(
        "--regression_loss",
        choices=("mse", "ccc", "mse+ccc"),
        default="mse",
        help="for regressions: mean squared error, 1 - CCC over the batch, or their sum",
    )
    group.add_argument("--init_scale", type=float, default=0.001, help="scale of the new head")
    group.add_argument(
        "--class_balanced",
        choices=("none", "sampler", "loss"),
        default="none",
        help="let all classes count alike, by drawing rare ones more often or weighting the loss",
    )
    group.add_argument("--model_ema", action="store_true", help="average the weights")
    group.add_argument("--model_ema_decay", type=float, default=0.9999, help="0..1")
    group.add_argument("--model_key", default="model|module", help=argparse.SUPPRESS)
    group.add_argument("--model_prefix", default="", help=argparse.SUPPRESS)
    for name in ("fc_drop_rate", "drop", "attn_drop_rate"):
        group.add_argument(f"--{name}", type=float, default=0.0, help="only 0 is supported")
    for name in ("use_cls", "use_mean_pooling", "model_ema_force_cpu", "enable_deepspeed"):
        group.add_argument(f"--{name}", action="store_true", help=argparse.SUPPRESS)
    add_optimisation_flags(parser, lr=1e-3, min_lr=1e-6, betas=None, batch_size=64)
    add_data_flags(parser, stage="finetune")
    _add_finetuning_augmentation(parser)
    _add_evaluation_flags(parser)
    add_run_flags(parser)
    return parser


def _add_finetuning_augmentation(parser: Parser) -> None:
    group = parser.add_argument_group("augmentation")
    group.add_argument("--num_sample", type=int, default=1, help="augmented copies per video")
    group.add_argument("--aa", default="rand-m7-n4-mstd0.5-inc1", help="RandAugment; none = off")
    group.add_argument("--color_jitter", type=float, default=0.4, help=argparse.SUPPRESS)
    group.add_argument("--smoothing", type=float, default=0.1, help="label smoothing")
    group.add_argument("--train_interpolation", default="bicubic", help=argparse.SUPPRESS)
    group.add_argument("--crop_pct", type=float, default=None, help=argparse.SUPPRESS)
    group.add_argument("--flip", type=float, default=0.5, help="probability of a mirrored clip")
    group.add_argument("--scale", type=float, nargs=2, default=[0.08, 1.0], help="area of the crop")
    group.add_argument("--ratio", type=float, nargs=2, default=[3 / 4, 4 / 3], help="its aspect")
    group.add_argument("--reprob", type=float, default=0.25, help="random erasing, probability")
    group.add_argument("--remode", choices=("pixel", "const"), default="pixel", help="noise or 0")
    group.add_argument("--recount", type=int, default=1, help=argparse.SUPPRESS)
    group.add_argument("--resplit", action="store_true", help=argparse.SUPPRESS)
    group.add_argument("--mixup", type=float, default=0.8, help="alpha; 0 = off")
    group.add_argument("--cutmix", type=float, default=1.0, help="alpha; 0 = off")
    group.add_argument("--cutmix_minmax", type=float, nargs=2, help="side of the box, 0..1")
    group.add_argument("--mixup_prob", type=float, default=1.0, help="share of mixed batches")
    group.add_argument("--mixup_switch_prob", type=float, default=0.5, help="share of cutmix")
    group.add_argument(
        "--mixup_mode",
        choices=("batch", "pair", "elem"),
        default="batch",
        help="one mix per batch, pair or clip",
    )


def _add_evaluation_flags(parser: Parser) -> None:
    group = parser.add_argument_group("evaluation")
    group.add_argument("--eval", action="store_true", help="evaluate only; see --resume")
    group.add_argument("--eval_data_path", default=None, help="folder of test.csv if another")
    group.add_argument(
        "--eval_split", choices=("test", "val", "train"), default="test", help="part for --eval"
    )
    group.add_argument(
        "--test_weights",
        choices=("last", "best", "ema"),
        default="last",
        help="which weights the final numbers come from",
    )
    group.add_argument("--dist_eval", action="store_true", help="always on: videos are shared out")
    group.add_argument(
        "--disable_eval_during_finetuning", action="store_true", help="no validation"
    )
    group.add_argument("--short_side_size", type=int, default=None, help="must equal --input_size")
    group.add_argument("--test_num_segment", type=int, default=2, help="clips per video in time")
    group.add_argument("--test_num_crop", type=int, default=2, help="crops per clip")
    group.add_argument(
        "--average_by",
        choices=("videos", "groups"),
        default="videos",
        help="what a prediction is about: a video, or its group in groups.csv beside the CSVs",
    )
    group.add_argument("--num_segments", type=int, default=1, help=argparse.SUPPRESS)
    group.add_argument(
        "--val_metric",
        choices=VALIDATION_METRICS,
        default=None,
        help="what `best` means on the validation part (default uar or ccc)",
    )
    group.add_argument(
        "--val_fraction",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="carve this share, 0..1, of train.csv for validation if there is no val.csv or it is "
        "the test part; by whole subjects where known",
    )
    group.add_argument(
        "--label_fraction",
        type=share,
        default=1.0,
        metavar="SHARE",
        help="train on this share, 0..1, of the training videos: whole subjects where known, "
        "else the same share of each class; --seed draws it",
    )
    group.add_argument(
        "--subjects",
        default="",
        metavar="CSV",
        help="subject of each video, for --val_fraction and --label_fraction (default: "
        "subjects.csv beside the CSVs)",
    )
    group.add_argument(
        "--save_feature", action="store_true", help="write features, pooled and of every stage"
    )
    group.add_argument(
        "--feature_format",
        nargs="+",
        choices=("npz", "parquet"),
        default=["npz"],
        help="files of --save_feature; parquet needs pyarrow",
    )

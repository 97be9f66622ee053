"""Command line flags of contrastive pre-training (SSL-FER, arXiv 2210.03853)."""

import argparse

# What SSL-FER was trained with, where it differs from the defaults of masked autoencoding.
CONTRASTIVE_DEFAULTS = {
    "model": "timm/resnet50", "batch_size": 256, "epochs": 300, "opt": "adam", "lr": 3e-4,
    "min_lr": 0.0, "weight_decay": 1e-4, "warmup_epochs": 10,
}  # fmt: skip
# Flags that only contrastive learning has a use for.
CONTRASTIVE_FLAGS = (
    "projection_dim", "temperature", "time_aug", "time_interval", "hard_negatives",
    "hard_negative_gap", "face_swap", "false_negatives", "false_negative_weight",
    "false_negative_threshold", "descriptor", "descriptor_weights", "part_mask", "cutmix",
    "landmarks", "frame_rate",
)  # fmt: skip


def add_contrastive_flags(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of `run_pretrain.py`."""
    group = parser.add_argument_group("contrastive learning (SSL-FER)")
    group.add_argument("--projection_dim", type=int, help="width of the projection (default: 128)")
    group.add_argument(
        "--temperature", type=float, default=0.07, help="similarities are divided by it"
    )
    group.add_argument(
        "--time_aug",
        choices=("none", "uniform", "rising", "falling"),
        default="none",
        help="positives are other frames of the video; how likely are longer intervals",
    )
    group.add_argument(
        "--time_interval",
        type=float,
        nargs=2,
        default=[0.5, 1.4],
        metavar=("MIN", "MAX"),
        help="seconds between a frame and its positive",
    )
    group.add_argument(
        "--hard_negatives", action="store_true", help="two pairs per video, far from each other"
    )
    group.add_argument(
        "--hard_negative_gap", type=float, default=3.0, metavar="SECONDS", help="how far at least"
    )
    group.add_argument(
        "--face_swap",
        type=float,
        default=0.0,
        metavar="P",
        help="probability that a positive gets another person's head",
    )
    group.add_argument(
        "--false_negatives",
        choices=("none", "remove", "promote"),
        default="none",
        help="negatives with the same expression: leave them out, or make the one most alike a "
        "second positive",
    )
    group.add_argument(
        "--false_negative_weight", type=float, default=0.8, help="of the second positive's loss"
    )
    group.add_argument(
        "--false_negative_threshold", type=float, default=0.5, help="cosine, for remove"
    )
    group.add_argument(
        "--descriptor", default="resnet18", metavar="NAME",
        help="describes eyes and mouth: hog, or a timm backbone",
    )  # fmt: skip
    group.add_argument("--descriptor_weights", metavar="FILE", help="of the timm backbone")
    group.add_argument(
        "--part_mask", type=float, default=0.0, metavar="P", help="cover mouth or an eye, so likely"
    )
    group.add_argument("--cutmix", type=float, default=0.0, help="alpha; 0 = off")
    group.add_argument(
        "--landmarks", metavar="DIR", help="root of landmark files (default: beside the data)"
    )
    group.add_argument(
        "--frame_rate", type=float, metavar="FPS", help="of folders of frames that do not say"
    )

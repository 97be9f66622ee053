"""Flags of `run_pretrain.py` alone: its objectives, their augmentation, pictures and probe."""

from functools import partial

from svfap.engine.flags.flag import CONTENT, FREE, SWITCH, Flag, Flags, Group
from svfap.engine.flags.flag_parser import boolean, share

MASKED, CONTRASTIVE = "mae", "contrastive"
# Objectives, and where what they bring is: module and class (`engine.pretext.base.Pretext`).
OBJECTIVES = {
    MASKED: "svfap.engine.pretext.masked:MaskedAutoencoding",
    CONTRASTIVE: "svfap.engine.pretext.contrastive:ContrastiveLearning",
}
# What SSL-FER was trained with, where it differs from the defaults of masked autoencoding.
CONTRASTIVE_DEFAULTS = {
    "model": "timm/resnet50", "batch_size": 256, "epochs": 300, "opt": "adam", "lr": 3e-4,
    "min_lr": 0.0, "weight_decay": 1e-4, "warmup_epochs": 10,
}  # fmt: skip

_masked = partial(Flag, owner=MASKED)
_contrastive = partial(Flag, owner=CONTRASTIVE)

OBJECTIVE = Group(
    "objective",
    (
        Flag(name="objective", choices=OBJECTIVES, default=MASKED,
             text="masked autoencoding, or contrastive learning (SSL-FER), which has other "
             "defaults: "
             + ", ".join(f"--{name} {value}" for name, value in CONTRASTIVE_DEFAULTS.items())),
    ),
)  # fmt: skip

MASKING = Group(
    "masked autoencoding",
    (
        _masked(name="start_from", default="", metavar="FILE", goes_on=CONTENT,
                text="weights to begin with: a file, hf://owner/repo[@revision][/file], or a name "
                "of svfap.models.download --list; without --model their model; an encoder alone "
                "gets a new decoder"),
        _masked(name="decoder_depth", kind=int, low=1, text="blocks in the decoder"),
        _masked(name="mask_type", choices=("tube", "random", "part_window"),
                text="default: tube; for LGI-Former part_window"),
        _masked(name="mask_ratio", kind=float, default=0.9, low=0, high=1,
                text="hidden share, 0..1"),
        _masked(name="lg_restore_order", kind=SWITCH, default=False,
                text="LGI-Former hands tokens to the decoder in their own order "
                "(docs/reproduction.md)"),
        _masked(name="part_win_size", kind=int, low=1, nargs=3, metavar="N",
                text="tokens per window of part_window, t h w (default: the LGI-Former's regions)"),
        _masked(name="part_apply_symmetry", choices=("global", "local"),
                text="show one half of the face only"),
        _masked(name="decoder_mask_share", kind=share, default=1.0, metavar="SHARE",
                text="share of the masked tokens that is decoded; below 1 changes the recipe, for "
                "speed"),
        _masked(name="normlize_target", kind=boolean, alone=True, default=True, metavar="BOOL",
                text="normalise each target tubelet per colour channel"),
        _masked(name="use_frame_diff_as_target", kind=SWITCH, default=False,
                text="predict appearance and motion"),
        _masked(name="target_diff_weight", kind=float, low=0, high=1,
                text="share of motion in the loss, 0..1 (default: 0.5)"),
        _masked(name="frame_diff_group_size", kind=int, default=2, low=1,
                text="frames whose differences are to the first of them"),
        _masked(name="merge_batches", choices=("auto", "always", "never"), default="auto",
                goes_on=FREE,
                text="compute the batches of --update_freq together, for speed; the updates stay "
                "the same; auto: on a GPU, as many as fit into its memory"),
    ),
)  # fmt: skip

CONTRASTING = Group(
    "contrastive learning (SSL-FER)",
    (
        _contrastive(name="projection_dim", kind=int, low=1,
                     text="width of the projection (default: 128)"),
        _contrastive(name="temperature", kind=float, default=0.07,
                     text="similarities are divided by it"),
        _contrastive(name="time_aug", choices=("none", "uniform", "rising", "falling"),
                     default="none",
                     text="positives are other frames of the video; how likely are longer "
                     "intervals"),
        _contrastive(name="time_interval", kind=float, nargs=2, default=[0.5, 1.4], low=0,
                     metavar=("MIN", "MAX"), text="seconds between a frame and its positive"),
        _contrastive(name="hard_negatives", kind=SWITCH, default=False,
                     text="two pairs per video, far from each other"),
        _contrastive(name="hard_negative_gap", kind=float, default=3.0, low=0, metavar="SECONDS",
                     text="how far at least"),
        _contrastive(name="face_swap", kind=float, default=0.0, low=0, high=1, metavar="P",
                     text="probability that a positive gets another person's head"),
        _contrastive(name="false_negatives", choices=("none", "remove", "promote"),
                     default="none",
                     text="negatives with the same expression: leave them out, or make the one "
                     "most alike a second positive"),
        _contrastive(name="false_negative_weight", kind=float, default=0.8, low=0,
                     text="of the second positive's loss"),
        _contrastive(name="false_negative_threshold", kind=float, default=0.5,
                     text="cosine, for remove"),
        _contrastive(name="descriptor", default="resnet18", metavar="NAME",
                     text="describes eyes and mouth: hog, or a timm backbone"),
        _contrastive(name="descriptor_weights", metavar="FILE", goes_on=CONTENT,
                     text="of the timm backbone"),
        _contrastive(name="part_mask", kind=float, default=0.0, low=0, high=1, metavar="P",
                     text="cover mouth or an eye, so likely"),
        _contrastive(name="cutmix", kind=float, default=0.0, text="alpha; 0 = off"),
        _contrastive(name="landmarks", metavar="DIR", goes_on=CONTENT,
                     text="root of landmark files (default: beside the data)"),
        _contrastive(name="frame_rate", kind=float, metavar="FPS",
                     text="of folders of frames that do not say"),
    ),
)  # fmt: skip

AUGMENTATION = Group(
    "augmentation",
    (
        _masked(name="num_samples", other_names=("num_sample",), kind=int, default=1, low=1,
                text="clips per decoded video"),
        _masked(name="resize_on", choices=("auto", "loader", "device"), default="auto",
                goes_on=FREE,
                text="where crops are enlarged; auto: on a GPU if there is one, to spare the "
                "loader"),
        Flag(name="color_jitter", kind=float, default=0.0, text="only 0 is supported",
             refused="is not supported in pre-training; leave it out"),
        Flag(name="train_interpolation", choices=("bilinear", "bicubic"), default="bicubic",
             goes_on=FREE),
    ),
)  # fmt: skip

PICTURES = Group(
    "pictures",
    (
        Flag(name="visualize", kind=int, default=4, low=0, metavar="N", goes_on=FREE,
             text="reconstructions of N videos at the end"),
    ),
)  # fmt: skip

PROBE = Group(
    "probe of the frozen encoder",
    (
        Flag(name="probe_every", kind=int, default=0, low=0, metavar="EPOCHS", goes_on=FREE,
             text="epochs between two linear probes and k-NN votes on its features; 0 = none"),
        Flag(name="probe_path", metavar="DIR", goes_on=CONTENT,
             text="folder with train.csv and test.csv"),
        Flag(name="probe_data_set", metavar="NAME", goes_on=FREE,
             text="data set of --probe_path"),
    ),
)  # fmt: skip


def check_contrastive(flags: Flags) -> None:
    """Refuse flags of contrastive learning that contradict each other.

    Raises:
        ValueError: with the remedy.
    """
    if flags.hard_negatives and flags.batch_size % 2:
        raise ValueError(
            f"--batch_size {flags.batch_size}: with --hard_negatives every video gives two pairs, "
            "so it must be even"
        )
    if flags.batch_size == 1:
        raise ValueError("--batch_size 1: there would be nothing to contrast with; take 2 or more")
    if flags.frame_rate is not None and not flags.frame_rate > 0:
        raise ValueError(f"--frame_rate {flags.frame_rate:g}: must be above 0")
    belongs = {
        "time_interval": ("time_aug", "uniform, rising or falling", flags.time_aug != "none"),
        "hard_negative_gap": ("hard_negatives", "", flags.hard_negatives),
        "false_negative_weight": (
            "false_negatives", "promote", flags.false_negatives == "promote"),
        "false_negative_threshold": (
            "false_negatives", "remove", flags.false_negatives == "remove"),
        "descriptor_weights": (
            "false_negatives", "remove or promote", flags.false_negatives != "none"),
    }  # fmt: skip
    for name, (other, value, on) in belongs.items():
        if name in flags.explicit and not on:
            raise ValueError(
                f"--{name} belongs to --{other} {value}".rstrip() + "; give both or none"
            )

"""Flags of `run_finetune.py` alone: the head, its augmentation, validation and evaluation."""

from functools import partial

from svfap.engine.flags.flag import CONTENT, FREE, SWITCH, Flag, Group
from svfap.engine.flags.flag_parser import share

# What the best weights may be chosen by.
VALIDATION_METRICS = (
    *("uar", "war", "acc1", "weighted_f1", "micro_f1", "macro_f1"),
    *("loss", "ccc", "pcc", "mae", "rmse"),
)

_number = partial(Flag, kind=float)
_chance = partial(Flag, kind=float, low=0, high=1)
_switch = partial(Flag, kind=SWITCH, default=False)
_only_zero = partial(
    _number, default=0.0, text="only 0 is supported",
    refused="is not supported; leave it out (these models pool tokens)",
)  # fmt: skip

HEAD = Group(
    "fine-tuning",
    (
        Flag(name="finetune", default="", metavar="FILE", goes_on=CONTENT,
             text="pre-trained weights: a file, hf://owner/repo[@revision][/file], or a name of "
             "`python -m svfap.models.download --list`"),
        Flag(name="preset", choices=("auto", "paper", "small"), default="auto", goes_on=FREE,
             text="what flags are that are not given: the papers' values, or those with which "
             "small data learn; auto: small below 3,000 clips and for tiny models, unless --lr is "
             "given"),
        Flag(name="nb_classes", kind=int, low=1, text="classes (default: the data set's)"),
        _number(name="layer_decay", default=0.75, low=0, text="rate factor per layer"),
        Flag(name="head_norm", choices=("auto", "layer", "batch"), default="auto",
             text="before the head: the papers' layer norm, or a batch norm, with which short "
             "trainings learn; auto: batch but for the papers' models (not tiny ones)"),
        Flag(name="head_activation_func", choices=("none", "sigmoid", "relu", "tanh"),
             text="after the head (default: none)"),
        Flag(name="regression_loss", choices=("mse", "ccc", "mse+ccc"), default="mse",
             text="for regressions: mean squared error, 1 - CCC over the batch, or their sum"),
        _number(name="init_scale", default=0.001, text="scale of the new head"),
        Flag(name="class_balanced", choices=("none", "sampler", "loss"), default="none",
             text="let all classes count alike, by drawing rare ones more often or weighting the "
             "loss"),
        _switch(name="model_ema", text="average the weights"),
        _chance(name="model_ema_decay", default=0.9999, text="0..1"),
        Flag(name="model_key", default="model|module", metavar="KEY|KEY...",
             text="where in the file the weights are: under the first of these that it has, else "
             "at the top"),
        Flag(name="model_prefix", default="",
             text="take the weights whose names begin so, without it"),
        _only_zero(name="fc_drop_rate"),
        _only_zero(name="drop"),
        _only_zero(name="attn_drop_rate"),
        _switch(name="use_cls",
                refused="is not supported; leave it out (these models pool tokens)"),
        _switch(name="use_mean_pooling", goes_on=FREE),
        _switch(name="model_ema_force_cpu", goes_on=FREE),
        _switch(name="enable_deepspeed", refused="is not supported; leave it out"),
    ),
)  # fmt: skip

AUGMENTATION = Group(
    "augmentation",
    (
        Flag(name="num_sample", kind=int, default=1, low=1, text="augmented copies per video"),
        Flag(name="aa", default="rand-m7-n4-mstd0.5-inc1", text="RandAugment; none = off"),
        _number(name="color_jitter", default=0.4, goes_on=FREE),
        _chance(name="smoothing", default=0.1, text="label smoothing"),
        Flag(name="train_interpolation", default="bicubic", goes_on=FREE),
        _number(name="crop_pct", goes_on=FREE),
        _chance(name="flip", default=0.5, text="probability of a mirrored clip"),
        _number(name="scale", nargs=2, default=[0.08, 1.0], low=0, text="area of the crop"),
        _number(name="ratio", nargs=2, default=[3 / 4, 4 / 3], low=0, text="its aspect"),
        _chance(name="reprob", default=0.25, text="random erasing, probability"),
        Flag(name="remode", choices=("pixel", "const"), default="pixel", text="noise or 0"),
        Flag(name="recount", kind=int, default=1, goes_on=FREE),
        _switch(name="resplit", goes_on=FREE),
        _number(name="mixup", default=0.8, low=0, text="alpha; 0 = off"),
        _number(name="cutmix", default=1.0, low=0, text="alpha; 0 = off"),
        _chance(name="cutmix_minmax", nargs=2, text="side of the box, 0..1"),
        _chance(name="mixup_prob", default=1.0, text="share of mixed batches"),
        _chance(name="mixup_switch_prob", default=0.5, text="share of cutmix"),
        Flag(name="mixup_mode", choices=("batch", "pair", "elem"), default="batch",
             text="one mix per batch, pair or clip"),
    ),
)  # fmt: skip

# The first config.json of a run says how its numbers came about, so what decides them has to stay;
# --eval tests finished weights in other ways.
EVALUATION = Group(
    "evaluation",
    (
        _switch(name="eval", goes_on=FREE, text="evaluate only; see --resume"),
        Flag(name="eval_data_path", goes_on=CONTENT, text="folder of test.csv if another"),
        Flag(name="eval_split", choices=("test", "val", "train"), default="test", goes_on=FREE,
             text="part for --eval"),
        Flag(name="map_classes", nargs="+", metavar="THEIRS=OURS",
             text="classes of an evaluated data set that the model knows by another name; "
             "THEIRS=- leaves their videos out"),
        Flag(name="test_weights", choices=("last", "best", "ema"), default="last",
             text="which weights the final numbers come from"),
        _switch(name="dist_eval", goes_on=FREE, text="always on: videos are shared out"),
        _switch(name="disable_eval_during_finetuning", text="no validation"),
        Flag(name="short_side_size", kind=int, low=1, goes_on=FREE,
             text="must equal --input_size"),
        Flag(name="test_num_segment", kind=int, default=2, low=1, text="clips per video in time"),
        Flag(name="test_num_crop", kind=int, default=2, low=1, text="crops per clip"),
        Flag(name="average_by", choices=("videos", "groups"), default="videos",
             text="what a prediction is about: a video, or its group in groups.csv beside the "
             "CSVs"),
        Flag(name="num_segments", kind=int, default=1, goes_on=FREE),
        Flag(name="val_metric", choices=VALIDATION_METRICS,
             text="what `best` means on the validation part (default uar or ccc)"),
        _chance(name="val_fraction", default=0.0, metavar="SHARE",
                text="carve this share, 0..1, of train.csv for validation if there is no val.csv "
                "or it is the test part; by whole subjects where known"),
        Flag(name="label_fraction", kind=share, default=1.0, metavar="SHARE",
             text="train on this share, 0..1, of the training videos: whole subjects where known, "
             "else the same share of each class; --seed draws it"),
        Flag(name="subjects", default="", metavar="CSV", goes_on=CONTENT,
             text="subject of each video, for --val_fraction and --label_fraction (default: "
             "subjects.csv beside the CSVs)"),
        _switch(name="save_feature", goes_on=FREE,
                text="write features, pooled and of every stage"),
        Flag(name="feature_format", nargs="+", choices=("npz", "parquet"), default=["npz"],
             goes_on=FREE, text="files of --save_feature; parquet needs pyarrow"),
    ),
)  # fmt: skip

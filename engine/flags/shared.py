"""Flags that `run_pretrain.py` and `run_finetune.py` share."""

from functools import partial

from svfap.engine.flags.flag import (
    CONTENT,
    FINETUNING,
    FREE,
    PAIR,
    PRETRAINING,
    SWITCH,
    Flag,
    Group,
)
from svfap.engine.flags.flag_parser import auto_on_off, boolean, device

# Of torch.compile; all but these two capture CUDA graphs.
COMPILE_MODES = ("default", "max-autotune-no-cudagraphs", "reduce-overhead", "max-autotune")
WITHOUT_GRAPHS = COMPILE_MODES[:2]
# `engine.compute.levers.Levers` says what they are.
LEVERS = (
    "whole_step", "cudnn_attention", "half_norms", "batched_augmentation", "joint_optimizer",
)  # fmt: skip

_whole = partial(Flag, kind=int)
_number = partial(Flag, kind=float)
_switch = partial(Flag, kind=SWITCH, default=False)
_pair = partial(Flag, kind=PAIR, default=True)
_ablation = partial(_switch, text="ablation of MAE-DFER")

MODEL = Group(
    "model",
    (
        Flag(name="model", metavar="NAME", text="name of a registered model",
             default={PRETRAINING: "pretrain_svfap_base_patch16_160",
                      FINETUNING: "svfap_base_patch16_160"}),
        _whole(name="input_size", low=1, metavar="PX", text="frame side"),
        _whole(name="num_frames", default=16, low=1, text="frames per clip"),
        _whole(name="patch_size", low=1, metavar="PX", text="tubelet side (default: model's)"),
        _whole(name="tubelet_size", default=2, low=1, text="frames per tubelet"),
        _number(name="drop_path", default={PRETRAINING: 0.0, FINETUNING: 0.1}, low=0, high=1,
                text="stochastic depth, 0..1"),
        _switch(name="standardise_clip",
                text="bring each clip to zero mean and unit variance per colour; not in the paper"),
    ),
)  # fmt: skip

TPSBT = Group(
    "TPSBT encoder (SVFAP)",
    (
        _whole(name="stage_depths", low=1, nargs="+", metavar="M",
               text="blocks per stage (default: model's)"),
        _whole(name="temporal_kernel_size", low=1,
               text="temporal down-sampling factor (default: model's)"),
        _whole(name="num_bottleneck_tokens", low=1, nargs="+", metavar="K",
               text="bottleneck tokens per time step, one number or one per stage (default: "
               "model's)"),
    ),
)  # fmt: skip

LGI_AND_VIT = Group(
    "LGI-Former and ViT encoders (MAE-DFER, VideoMAE)",
    (
        Flag(name="attn_type", choices=("joint", "local_global"),
             text="joint = ViT, local_global = LGI-Former"),
        _whole(name="lg_region_size", low=1, nargs=3, metavar="N",
               text="tokens per region, t h w"),
        _whole(name="depth", other_names=("encoder_depth",), low=1, text="encoder blocks"),
        Flag(name="lg_classify_token_type", choices=("region", "org", "all"),
             text="tokens that are pooled"),
        *(Flag(name=f"lg_{which}_attn_type", choices=("self", "cross"),
               text="ablation of MAE-DFER") for which in ("first", "third")),
        _ablation(name="lg_attn_param_sharing_first_third"),
        _ablation(name="lg_attn_param_sharing_all"),
        _ablation(name="lg_no_second"),
        _ablation(name="lg_no_third"),
        Flag(name="use_fmp_flashlite", kind=boolean, alone=True, metavar="BOOL",
             text="MiRA: true = flashLite, false = exact attention; its files do not tell"),
    ),
)  # fmt: skip

OPTIMISATION = Group(
    "optimisation",
    (
        # Of the batches' sizes only the product has to stay (`Training.global_batch`).
        _whole(name="batch_size", default=64, low=1, goes_on=FREE, text="clips per process"),
        _whole(name="epochs", default=100, low=1, text="passes over the training part"),
        _whole(name="update_freq", default=1, low=1, goes_on=FREE,
               text="batches accumulated for one optimizer step"),
        Flag(name="opt", default="adamw", text="adamw, sgd, or a timm optimizer name"),
        _number(name="opt_eps", default=1e-8, low=0, text="added to the denominator"),
        _number(name="opt_betas", default={PRETRAINING: [0.9, 0.95], FINETUNING: None}, low=0,
                high=1, nargs="+", metavar="BETA", text="of Adam"),
        _number(name="momentum", default=0.9, low=0, text="for sgd"),
        _number(name="clip_grad", low=0, text="largest gradient norm (default: no limit)"),
        _number(name="weight_decay", default=0.05, low=0,
                text="of weights with 2 or more dimensions"),
        _number(name="weight_decay_end", low=0, text="cosine from --weight_decay to this"),
        _number(name="lr", default={PRETRAINING: 1.5e-4, FINETUNING: 1e-3}, low=0,
                text="base rate; the peak is lr x global batch / 256"),
        _number(name="warmup_lr", default=0.0, low=0,
                text="where warm-up starts, scaled like --lr"),
        _number(name="min_lr", default={PRETRAINING: 1e-5, FINETUNING: 1e-6}, low=0,
                text="where the cosine ends, scaled like --lr"),
        _whole(name="warmup_epochs", default=5, low=0, text="epochs of linearly rising rate"),
        _whole(name="warmup_steps", default=-1, text="overrides --warmup_epochs if > 0"),
        _whole(name="max_steps", low=1, goes_on=FREE,
               text="stop after this many optimizer steps in all"),
    ),
)  # fmt: skip


def data_group(data_path: str) -> Group:
    """What is read, and how; `data_path` says what `--data_path` is."""
    return Group(
        "data",
        (
            Flag(name="data_path", metavar="PATH", goes_on=CONTENT, text=data_path),
            Flag(name="data_root", metavar="DIR", goes_on=CONTENT,
                 text="prefix of relative paths in CSVs"),
            Flag(name="data_set", metavar="NAME",
                 text="data set name, as in datasets/catalog.py"),
            _whole(name="sampling_rate", default=4, low=1, text="every n-th frame"),
            _whole(name="face_window", low=0, nargs=4, metavar=("TOP", "LEFT", "HEIGHT", "WIDTH"),
                   text="part of each frame that is used, pixels; otherwise the data set's"),
            Flag(name="reader", choices=("auto", "pyav", "decord", "torchcodec"), default="auto",
                 text="decoder of video files; auto is pyav"),
            _whole(name="num_workers", low=0, goes_on=FREE,
                   text="loader processes (default: one per core, at most 16)"),
            _pair(name="pin_mem", goes_on=FREE, text="page-locked batches (CUDA only)"),
            _number(name="max_unreadable", default=0.01, low=0, high=1, goes_on=FREE,
                    text="share of videos that may be unreadable in training, 0..1, rounded up to "
                    "videos"),
            _pair(name="check_paths", goes_on=FREE,
                  text="look whether every listed file exists before starting"),
            Flag(name="imagenet_default_mean_and_std", kind=boolean, alone=True,
                 default=True, goes_on=FREE),
        ),
    )  # fmt: skip


RUN = Group(
    "run",
    (
        Flag(name="output_dir", default="", metavar="DIR", goes_on=FREE,
             text="run directory (default: a dated one in saved/runs; '' keeps nothing)"),
        Flag(name="log_dir", metavar="DIR", goes_on=FREE,
             text="TensorBoard events (default: --output_dir)"),
        Flag(name="logger", choices=("tensorboard", "wandb", "mlflow", "trackio", "none"),
             nargs="+", default=["tensorboard"], goes_on=FREE,
             text="who gets the numbers of log.jsonl besides (docs/experiments.md)"),
        Flag(name="config", metavar="FILE.yaml", goes_on=FREE,
             text="flags by name; the command line wins"),
        _whole(name="seed", default=0, low=0, text="of every random choice"),
        Flag(name="device", kind=device, default="auto", goes_on=FREE,
             text="auto, cpu, cuda, cuda:N or mps"),
        # Rounding only, and a run whose loss overflows in one format goes on in another.
        Flag(name="amp", choices=("auto", "bf16", "fp16", "off"), default="auto", goes_on=FREE,
             text="mixed precision; auto takes what the device computes fast"),
        Flag(name="compile", kind=auto_on_off, alone="on", default="auto", goes_on=FREE,
             text="torch.compile training and evaluation: auto (on a GPU, where a run is long "
             "enough to pay for it), on (so it is without a word after it) or off"),
        Flag(name="compile_mode", choices=COMPILE_MODES, default="default", goes_on=FREE,
             text="reduce-overhead: with CUDA graphs; max-autotune: these and a search for the "
             "fastest kernels"),
        Flag(name="without", choices=LEVERS, nargs="+", metavar="LEVER", goes_on=FREE,
             text=f"rule out what makes steps faster, of {', '.join(LEVERS)} (docs/scaling.md)"),
        _switch(name="shard", goes_on=FREE,
                text="spread weights, gradients and optimizer over the processes (FSDP2), to save "
                "memory"),
        _switch(name="use_checkpoint", goes_on=FREE, text="recompute activations to save memory"),
        _whole(name="print_freq", default=10, low=1, metavar="STEPS", goes_on=FREE,
               text="steps between two reports"),
        _pair(name="report", goes_on=FREE, text="write report.html at the end"),
        _switch(name="dry_run", goes_on=FREE, text="print the resolved plan and exit"),
        # Of the released launchers, without a meaning here; accepted so that scripts parse.
        Flag(name="local_rank", other_names=("local-rank",), goes_on=FREE),
        Flag(name="world_size", other_names=("world-size",), goes_on=FREE),
        _switch(name="dist_on_itp", other_names=("dist-on-itp",), goes_on=FREE),
        Flag(name="dist_url", other_names=("dist-url",), goes_on=FREE),
    ),
)  # fmt: skip

CHECKPOINTS = Group(
    "checkpoints",
    (
        Flag(name="resume", default="", metavar="FILE", goes_on=FREE,
             text="go on from this checkpoint, or from a later one of the run in --output_dir"),
        _pair(name="auto_resume", goes_on=FREE, text="go on with the run in --output_dir"),
        _whole(name="start_epoch", default=0, low=0,
               text="epoch at which a new run begins, with the rates of that epoch"),
        _whole(name="save_ckpt_freq", default=10, low=1, metavar="EPOCHS", goes_on=FREE,
               text="epochs between checkpoints that are kept"),
        _pair(name="save_ckpt", goes_on=FREE, text="write checkpoints"),
        _number(name="save_every_minutes", default=15.0, low=0, goes_on=FREE,
                text="also save in mid-epoch, at most this far apart; 0 saves after every step"),
    ),
)  # fmt: skip

"""Command line flags that `run_pretrain.py` and `run_finetune.py` share."""

import argparse

from engine.flags.flag_parser import Parser, add_switch, boolean

# Of torch.compile; all but these two capture CUDA graphs.
COMPILE_MODES = ("default", "max-autotune-no-cudagraphs", "reduce-overhead", "max-autotune")
WITHOUT_GRAPHS = COMPILE_MODES[:2]
# Flags of the released launchers that have no meaning here; accepted so that scripts parse.
OBSOLETE_FLAGS = ("local_rank", "world_size", "dist_on_itp", "dist_url")


def add_model_flags(parser: Parser, *, default_model: str, drop_path: float) -> None:
    """Add what describes the model."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", default=default_model, metavar="NAME", help="name of a registered model"
    )
    group.add_argument("--input_size", type=int, default=None, metavar="PX", help="frame side")
    group.add_argument("--num_frames", type=int, default=16, help="frames per clip")
    group.add_argument(
        "--patch_size", type=int, metavar="PX", help="tubelet side (default: model's)"
    )
    group.add_argument("--tubelet_size", type=int, default=2, help="frames per tubelet")
    group.add_argument("--drop_path", type=float, default=drop_path, help="stochastic depth, 0..1")
    group.add_argument(
        "--standardise_clip",
        action="store_true",
        help="bring each clip to zero mean and unit variance per colour; not in the paper",
    )
    tpsbt = parser.add_argument_group("TPSBT encoder (SVFAP)")
    tpsbt.add_argument(
        "--stage_depths", type=int, nargs=3, metavar="M", help="blocks per stage (default: model's)"
    )
    tpsbt.add_argument(
        "--temporal_kernel_size", type=int, help="temporal down-sampling factor (default: model's)"
    )
    tpsbt.add_argument(
        "--num_bottleneck_tokens",
        type=int,
        nargs="+",
        metavar="K",
        help="bottleneck tokens per time step, one number or one per stage (default: model's)",
    )
    lgi = parser.add_argument_group("LGI-Former and ViT encoders (MAE-DFER, VideoMAE)")
    lgi.add_argument(
        "--attn_type",
        choices=("joint", "local_global"),
        help="joint = ViT, local_global = LGI-Former",
    )
    lgi.add_argument(
        "--lg_region_size", type=int, nargs=3, metavar="N", help="tokens per region, t h w"
    )
    lgi.add_argument("--depth", "--encoder_depth", type=int, dest="depth", help="encoder blocks")
    lgi.add_argument(
        "--lg_classify_token_type", choices=("region", "org", "all"), help="tokens that are pooled"
    )
    for name in ("first", "third"):
        lgi.add_argument(
            f"--lg_{name}_attn_type", choices=("self", "cross"), help="ablation of MAE-DFER"
        )
    for name in ("attn_param_sharing_first_third", "attn_param_sharing_all"):
        lgi.add_argument(f"--lg_{name}", action="store_true", help="ablation of MAE-DFER")
    for name in ("no_second", "no_third"):
        lgi.add_argument(f"--lg_{name}", action="store_true", help="ablation of MAE-DFER")


def add_optimisation_flags(
    parser: Parser, *, lr: float, min_lr: float, betas: list[float] | None, batch_size: int
) -> None:
    """Add batch, optimizer and learning rate."""
    group = parser.add_argument_group("optimisation")
    group.add_argument("--batch_size", type=int, default=batch_size, help="clips per process")
    group.add_argument("--epochs", type=int, default=100, help="passes over the training part")
    group.add_argument(
        "--update_freq", type=int, default=1, help="batches accumulated for one optimizer step"
    )
    group.add_argument("--opt", default="adamw", help="adamw, sgd, or a timm optimizer name")
    group.add_argument("--opt_eps", type=float, default=1e-8, help="added to the denominator")
    group.add_argument(
        "--opt_betas", type=float, nargs="+", default=betas, metavar="BETA", help="of Adam"
    )
    group.add_argument("--momentum", type=float, default=0.9, help="for sgd")
    group.add_argument("--clip_grad", type=float, help="largest gradient norm (default: no limit)")
    group.add_argument(
        "--weight_decay", type=float, default=0.05, help="of weights with 2 or more dimensions"
    )
    group.add_argument(
        "--weight_decay_end", type=float, default=None, help="cosine from --weight_decay to this"
    )
    group.add_argument(
        "--lr", type=float, default=lr, help="base rate; the peak is lr x global batch / 256"
    )
    group.add_argument(
        "--warmup_lr", type=float, default=0.0, help="where warm-up starts, scaled like --lr"
    )
    group.add_argument(
        "--min_lr", type=float, default=min_lr, help="where the cosine ends, scaled like --lr"
    )
    group.add_argument(
        "--warmup_epochs", type=int, default=5, help="epochs of linearly rising rate"
    )
    group.add_argument(
        "--warmup_steps", type=int, default=-1, help="overrides --warmup_epochs if > 0"
    )
    group.add_argument(
        "--max_steps", type=int, default=None, help="stop after this many optimizer steps in all"
    )


def add_data_flags(parser: Parser, *, stage: str) -> None:
    """Add what is read, and how; `stage` is "pretrain" or "finetune"."""
    group = parser.add_argument_group("data")
    where = "CSV of clips" if stage == "pretrain" else "folder with train.csv, val.csv, test.csv"
    group.add_argument("--data_path", metavar="PATH", help=where)
    group.add_argument("--data_root", metavar="DIR", help="prefix of relative paths in CSVs")
    group.add_argument(
        "--data_set", metavar="NAME", help="data set name, as in datasets/catalog.py"
    )
    group.add_argument("--sampling_rate", type=int, default=4, help="every n-th frame")
    group.add_argument(
        "--face_window",
        type=int,
        nargs=4,
        metavar=("TOP", "LEFT", "HEIGHT", "WIDTH"),
        help="part of each frame that is used, pixels; otherwise the data set's",
    )
    group.add_argument(
        "--reader",
        choices=("auto", "pyav", "decord", "torchcodec"),
        default="auto",
        help="decoder of video files; auto is pyav",
    )
    group.add_argument(
        "--num_workers", type=int, help="loader processes (default: one per core, at most 16)"
    )
    add_switch(group, "pin_mem", default=True, text="page-locked batches (CUDA only)")
    group.add_argument(
        "--max_unreadable",
        type=float,
        default=0.01,
        help="share of videos that may be unreadable in training, 0..1, rounded up to videos",
    )
    group.add_argument(
        "--no_check_paths",
        action="store_false",
        dest="check_paths",
        default=True,
        help="do not look whether every listed file exists before starting",
    )
    group.add_argument(
        "--imagenet_default_mean_and_std",
        type=boolean,
        nargs="?",
        const=True,
        default=True,
        help=argparse.SUPPRESS,
    )


def add_run_flags(parser: Parser) -> None:
    """Add device, precision, reports and checkpoints."""
    group = parser.add_argument_group("run")
    group.add_argument("--output_dir", default="", metavar="DIR", help="run directory")
    group.add_argument("--log_dir", default=None, metavar="DIR", help="TensorBoard events")
    group.add_argument("--config", metavar="FILE.yaml", help="flags by name; the command line wins")
    group.add_argument("--seed", type=int, default=0, help="of every random choice")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    group.add_argument(
        "--amp",
        choices=("auto", "bf16", "fp16", "off"),
        default="auto",
        help="mixed precision; auto takes what the device computes fast",
    )
    group.add_argument("--compile", action="store_true", help="torch.compile the model")
    group.add_argument(
        "--compile_mode",
        choices=COMPILE_MODES,
        default="default",
        help="reduce-overhead: with CUDA graphs; max-autotune: these and a search for the fastest "
        "kernels",
    )
    group.add_argument(
        "--shard",
        action="store_true",
        help="spread weights, gradients and optimizer over the processes (FSDP2), to save memory",
    )
    group.add_argument(
        "--use_checkpoint", action="store_true", help="recompute activations to save memory"
    )
    group.add_argument(
        "--print_freq", type=int, default=10, metavar="STEPS", help="steps between two reports"
    )
    add_switch(group, "report", default=True, text="write report.html at the end")
    group.add_argument("--dry_run", action="store_true", help="print the resolved plan and exit")
    for name in OBSOLETE_FLAGS:
        kind = {"action": "store_true"} if name == "dist_on_itp" else {}
        group.add_argument(
            f"--{name}", f"--{name.replace('_', '-')}", help=argparse.SUPPRESS, **kind
        )
    keep = parser.add_argument_group("checkpoints")
    keep.add_argument("--resume", default="", metavar="FILE", help="go on from this checkpoint")
    add_switch(keep, "auto_resume", default=True, text="go on with the run in --output_dir")
    keep.add_argument("--start_epoch", type=int, default=0, help="for --resume files without one")
    keep.add_argument(
        "--save_ckpt_freq",
        type=int,
        default=10,
        metavar="EPOCHS",
        help="epochs between checkpoints that are kept",
    )
    add_switch(keep, "save_ckpt", default=True, text="write checkpoints")
    keep.add_argument(
        "--save_every_minutes",
        type=float,
        default=15.0,
        help="also save in mid-epoch, at most this far apart; 0 saves after every step",
    )

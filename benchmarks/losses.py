"""The same losses, faster: ours and the baseline's training from the same weights and batches.

Trains both for a number of steps on sample clips (moving textures) and reports how far apart the
losses are; where ours runs in bfloat16 they may differ by its rounding, nothing else.
"""

import argparse
from collections.abc import Sequence

import torch

from benchmarks import common, sample_data, steps
from svfap.datasets.augment import transforms


def batches(work: steps.Work, count: int, num_clips: int) -> list[dict]:
    """Batches of moving textures, uint8, with masks."""
    model = work.model
    pool = torch.stack(
        [
            torch.from_numpy(sample_data.frames_of(seed, model.num_frames, model.img_size))
            for seed in range(num_clips)
        ]
    )
    result = []
    for number in range(count):
        size = len(work.batch["clip"])
        chosen = torch.randint(num_clips, (size,), generator=torch.Generator().manual_seed(number))
        mask, _ = steps.masks(model, size, steps.MASK_RATIO, seed=number)
        result.append({"clip": pool[chosen], "mask": mask})
    return result


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m benchmarks.losses`."""
    parser = steps.step_parser("losses", __doc__)
    parser.set_defaults(batch_size=4)
    steps.add_compile_flags(parser)
    parser.add_argument("--model", default="svfap_small_patch16_160", help="size")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--num_clips", type=int, default=32, help="different clips")
    return parser


def main(argv: Sequence[str] | None = None) -> dict:
    """Train both and report."""
    flags = build_parser().parse_args(argv)
    device, batch = steps.begin(flags)
    options = {"batch": batch, "device": device}
    levers = steps.levers_asked(flags, device)
    ours = steps.our_work(flags.model, "pretrain", amp=flags.amp, levers=levers, **options)
    plain = steps.baseline_work(flags.model, "pretrain", **options)
    losses = {"ours": [], "baseline": []}
    for batch in batches(ours, flags.steps, flags.num_clips):
        losses["ours"].append(float(ours.of(batch)))
        clip = transforms.normalize_(transforms.to_float(batch["clip"]))
        losses["baseline"].append(float(plain.of(batch | {"clip": clip})))
    values = {name: torch.tensor(series) for name, series in losses.items()}
    apart = (values["ours"] - values["baseline"]).abs() / values["baseline"]
    row = {
        "model": flags.model,
        "precision": ours.precision,
        "steps": flags.steps,
        "first_loss": losses["baseline"][0],
        "last_loss_baseline": losses["baseline"][-1],
        "last_loss_ours": losses["ours"][-1],
        "mean_relative_difference": float(apart.mean()),
        "largest_relative_difference": float(apart.max()),
    }
    return common.report("losses", [row], flags, device, losses=losses)


if __name__ == "__main__":
    main()

"""The VideoMAE of Hugging Face transformers, pre-training: the same sizes, masks and optimizer.

Needs `transformers`, which nothing else here does. Its batch holds normalised float32 clips on the
device, which spares it the work that ours does on uint8 clips.
"""

import argparse
from collections.abc import Sequence

import torch

from benchmarks import common, steps
from svfap.engine.compute.precision import choose_precision

OURS = "videomae_base_patch16_160"


def peer_work(batch: int, device: torch.device, *, amp: str, compiled: bool, name: str = OURS):
    """The step of transformers' model in the sizes of ours."""
    try:
        from transformers import VideoMAEConfig, VideoMAEForPreTraining
    except ImportError as error:
        raise ValueError(f"transformers is not installed ({error}): pip install it") from error
    ours = steps.make_model(name, "pretrain")
    config, depth = ours.config, len(ours.encoder.blocks)
    decoder = config["decoder_embed_dim"]
    model = VideoMAEForPreTraining(VideoMAEConfig(
        image_size=ours.img_size, patch_size=ours.tubelet[1], num_frames=ours.num_frames,
        tubelet_size=ours.tubelet[0], hidden_size=ours.embed_dim, num_hidden_layers=depth,
        num_attention_heads=config["num_heads"], intermediate_size=4 * ours.embed_dim,
        decoder_hidden_size=decoder, decoder_intermediate_size=4 * decoder,
        decoder_num_hidden_layers=config["decoder_depth"],
        decoder_num_attention_heads=config["decoder_num_heads"],
    )).to(device).train()  # fmt: skip
    precision = choose_precision(amp, device, width=ours.embed_dim)
    mask, visible = steps.masks(ours, batch, steps.MASK_RATIO)
    clips = torch.randn(batch, ours.num_frames, 3, ours.img_size, ours.img_size, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(model) if compiled else model

    def step(content: dict) -> torch.Tensor:
        with precision.autocast():
            loss = forward(content["clip"], bool_masked_pos=content["mask"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    content = {"clip": clips, "mask": mask.to(device)}
    flop = steps.step_flop(ours, "pretrain", batch, visible)
    return steps.Work(model, step, str(precision), content, batch, flop)


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m benchmarks.peer`."""
    parser = steps.step_parser("peer", __doc__, repeats=5)
    parser.add_argument("--model", default=OURS, help="size of ours that is copied")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    return parser


def main(argv: Sequence[str] | None = None) -> dict:
    """Measure and report."""
    flags = build_parser().parse_args(argv)
    device, batch = steps.begin(flags, cpu=2, cuda=128)
    work = peer_work(batch, device, amp=flags.amp, compiled=flags.compile, name=flags.model)
    timing = common.measure(work.run, repeats=flags.repeats, warmup=3, device=device)
    row = {"model": "transformers' VideoMAE", "compiled": flags.compile,
           **work.measured(timing, flags.clock, device)}  # fmt: skip
    return common.report("peer", [row], flags, device)


if __name__ == "__main__":
    main()

"""A fine-tuned model as one file for other programs: ONNX, or a program of `torch.export`.

The file takes a clip as it leaves a video, (B, T, H, W, 3) uint8 RGB, and gives probabilities or
values; resizing and face cropping are left to the caller. With `--raw` it takes a normalised clip
(B, 3, T, H, W) float32 and gives the model's outputs. What is written is compared with the model.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from svfap.datasets.augment import transforms
from svfap.engine.predict.predictor import PredictionOptions, Predictor
from svfap.engine.runtime.log import set_up_logging
from svfap.engine.runtime.programs import tells_user
from svfap.engine.tasks.task import Task
from svfap.extras import install

logger = logging.getLogger("svfap.engine.export")  # also when it runs as the program

FORMATS = {".onnx": "onnx", ".pt2": "torch"}
TOLERANCE = 1e-4  # largest difference of outputs, relative to their largest value


class ClipToAnswer(nn.Module):
    """Pixels in, probabilities or values out."""

    def __init__(self, model: nn.Module, task: Task):
        super().__init__()
        self.model = model
        self._scores = task.scores
        self._options = {"per_frame": True} if model.keep_temporal_dim else {}
        self.register_buffer("mean", torch.tensor(transforms.IMAGENET_MEAN)[:, None, None, None])
        self.register_buffer("std", torch.tensor(transforms.IMAGENET_STD)[:, None, None, None])

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """(B, T, H, W, 3) uint8 RGB to (B, num_outputs), or per frame to (B, T, num_outputs)."""
        pixels = clip.permute(0, 4, 1, 2, 3).float() / 255
        return self._scores(self.model((pixels - self.mean) / self.std, **self._options))


def example_clips(model: nn.Module, *, raw: bool, count: int, seed: int = 0) -> torch.Tensor:
    """Random inputs for tracing and comparing: smooth noise of full contrast."""
    size, frames = model.img_size, model.num_frames
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((count, 3, frames, 8, 8), generator=generator)
    clip = nn.functional.interpolate(coarse, (frames, size, size), mode="trilinear")
    if raw:
        return transforms.normalize(clip).contiguous()
    return (clip * 255).round().to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()


def export_program(module: nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    """`torch.export` with any batch size."""
    batch = {0: torch.export.Dim("batch", min=1, max=4096)}
    with torch.no_grad():
        return torch.export.export(module, (example,), dynamic_shapes=(batch,))


def write_onnx(module: nn.Module, example: torch.Tensor, path: Path, facts: dict, opset: int):
    """Write an ONNX file with any batch size; `facts` become its metadata."""
    try:
        import onnx

        table = _translations()
    except ImportError as error:
        raise ImportError(
            f"writing ONNX needs onnx and onnxscript ({error}); {install('onnx')}"
        ) from error
    batch = {0: torch.export.Dim("batch", min=1, max=4096)}
    with torch.no_grad(), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder, path.name)
        torch.onnx.export(
            module, (example,), str(temporary), dynamo=True, dynamic_shapes=(batch,),
            input_names=["clip"], output_names=["scores"], opset_version=opset,
            external_data=False, verbose=False, custom_translation_table=table,
        )  # fmt: skip
        written = onnx.load(temporary)
        for key, value in facts.items():
            entry = written.metadata_props.add()
            entry.key, entry.value = key, json.dumps(value)
        onnx.checker.check_model(written)
        onnx.save(written, temporary)
        temporary.replace(path)


def _translations() -> dict:
    """What torch.onnx lacks: the stable sort of whole numbers that groups tokens by region."""
    from onnxscript import opset18 as op

    def sort_stable(values, stable=True, dim=-1, descending=False):
        """Ascending; equal values keep their order because their position is part of the key."""
        assert stable and not descending, "only the stable ascending sort is translated"
        length = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
        scalar = op.Squeeze(length)
        position = op.Range(op.Constant(value_int=0), scalar, op.Constant(value_int=1))
        key = op.Add(op.Mul(values, length), position)
        _, order = op.TopK(key, length, axis=dim, largest=0, sorted=1)
        return op.GatherElements(values, order, axis=dim), order

    return {torch.ops.aten.sort.stable: sort_stable}


def run_onnx(path: Path, clip: np.ndarray) -> np.ndarray:
    """Outputs of an ONNX file on the CPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"checking ONNX needs onnxruntime ({error}); {install('onnx')}"
        ) from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: clip})[0]


def largest_difference(module: nn.Module, path: Path, *, raw: bool, model: nn.Module) -> float:
    """Largest difference of a written file's outputs, in units of the model's largest one.

    Inputs and batch size are not those that it was traced with.
    """
    clip = example_clips(model, raw=raw, count=3, seed=1)
    with torch.inference_mode():
        expected = module(clip).numpy()
    if FORMATS[path.suffix] == "onnx":
        found = run_onnx(path, clip.numpy())
    else:
        with torch.inference_mode():
            found = torch.export.load(path).module()(clip).numpy()
    if found.shape != expected.shape:
        raise ValueError(f"{path} gives {found.shape}, the model {expected.shape}")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def export(predictor: Predictor, path: Path, *, raw: bool = False, opset: int = 18) -> float:
    """Write a model, which is on the CPU, as .onnx or .pt2; returns `largest_difference`.

    With `raw` normalisation and scores are left to the caller.

    Raises:
        ValueError: unknown suffix, or the outputs differ by more than `TOLERANCE`.
        ImportError: packages of the extra `onnx` are missing.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"--output {path}: the suffix must be one of {', '.join(FORMATS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    model = predictor.model
    module = (model if raw else ClipToAnswer(model, predictor.task)).eval()
    example = example_clips(model, raw=raw, count=2)
    facts = describe(predictor, raw=raw)
    if FORMATS[path.suffix] == "onnx":
        write_onnx(module, example, path, facts, opset)
    else:
        extra = {"description.json": json.dumps(facts)}
        torch.export.save(export_program(module, example), path, extra_files=extra)
    difference = largest_difference(module, path, raw=raw, model=model)
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{path} differs from the model by {difference:.2g} of its largest output (allowed "
            f"{TOLERANCE:g}); do not use it, and report the versions of torch and onnxruntime"
        )
    return difference


def describe(predictor: Predictor, *, raw: bool) -> dict:
    """What a user of the file must know."""
    options, model = predictor.options, predictor.model
    each = ""  # what an output is about, if not about the clip
    if model.keep_temporal_dim:
        each = (
            f", (B, {model.output_steps}, outputs): a time step each" if raw else ", a frame each"
        )
    return {
        "model": model.config,
        "task": predictor.kind,
        "names": list(predictor.names),
        "input": "float32 (B, 3, T, H, W), ImageNet-normalised" if raw else
        "uint8 (B, T, H, W, 3), RGB",
        "output": ("logits or values" if raw else "probabilities or values") + each,
        "sampling_rate": options.sampling_rate,
        "fps": options.fps,
        "crop_side_in_eye_distances": options.style.side,
        "crop_eye_height": options.style.eye_height,
        "crop_align": options.align,
    }  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.engine.export`."""
    parser = argparse.ArgumentParser("engine.export", description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", required=True, metavar="FILE", help="fine-tuned weights")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.onnx|FILE.pt2")
    parser.add_argument("--raw", action="store_true", help="no normalisation, no softmax inside")
    parser.add_argument("--opset", type=int, default=18, help="of ONNX")
    parser.add_argument("--averaged", action="store_true", help="use the averaged weights")
    parser.add_argument("--model", metavar="NAME", help="for weights that do not name theirs")
    parser.add_argument("--data_set", help="for weights that do not name theirs")
    parser.add_argument("--class_names", nargs="+", metavar="NAME", help="in label order")
    return parser


@tells_user(ImportError)
def main(argv: Sequence[str] | None = None) -> int:
    """Export from the command line; returns the exit status."""
    flags = build_parser().parse_args(argv)
    set_up_logging(True)
    predictor = Predictor(
        flags.checkpoint,
        PredictionOptions(crop=False),
        device="cpu",
        amp="off",
        averaged=flags.averaged,
        model_name=flags.model,
        data_set=flags.data_set,
        class_names=flags.class_names,
    )
    difference = export(predictor, flags.output, raw=flags.raw, opset=flags.opset)
    logger.info(
        "wrote %s (%.1f MB); largest difference from the model %.1e of its largest output",
        flags.output, flags.output.stat().st_size / 1e6, difference,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m svfap.engine.pretext.epochs RUN`: the same faces, reconstructed epoch after epoch.

A column per video, the middle frame of its middle clip; a row for each checkpoint of a run,
with the visible tubelets put back. Clips and masks are the same in all rows.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from svfap import models
from svfap.datasets.labels.annotations import read_annotations
from svfap.engine.flags.config import pretraining_parser
from svfap.engine.flags.flag import Flags
from svfap.engine.identity import identify
from svfap.engine.pretext.masked import MaskedAutoencoding
from svfap.engine.pretext.pictures import draw_rows, reconstruct
from svfap.engine.report.plots import save_figure, spread
from svfap.engine.runtime import distributed
from svfap.engine.runtime.log import set_up_logging
from svfap.engine.runtime.programs import tells_user

NUMBER = re.compile(r"checkpoint-(\d+)\.pth")


def checkpoints_of(run: Path) -> dict[int, Path]:
    """Epoch (from 0) -> checkpoint of a run, in order."""
    found = {int(m[1]): path for path in run.glob("*.pth") if (m := NUMBER.fullmatch(path.name))}
    if not found:
        raise FileNotFoundError(
            f"{run} has no checkpoint-<epoch>.pth; pre-train with --save_ckpt_freq 1, or more"
        )
    return dict(sorted(found.items()))


def epochs_figure(
    run: Path, *, num_faces: int = 6, num_rows: int = 8, device: str = "auto",
    data_path: str | None = None,
) -> Figure:  # fmt: skip
    """The picture of a pre-training."""
    files = checkpoints_of(run)
    epochs = [list(files)[place] for place in spread(len(files), num_rows)]
    identity = identify(files[epochs[0]])
    other = {"data_path": data_path} if data_path else {}
    flags = Flags(**vars(pretraining_parser().parse_args([])) | dict(identity.flags) | other)
    if flags.objective != "mae" or identity.labels is not None:
        raise ValueError(f"{run} is no masked pre-training, which alone reconstructs")
    workers = distributed.start(device)
    pretext = MaskedAutoencoding(flags, workers)
    annotations = read_annotations(
        flags.data_path, task="pretrain", data_root=flags.data_root, check_paths=False
    )
    model = models.create_model(**identity.config).to(workers.device)
    rows: dict[str, list[np.ndarray]] = {"original": [], "masked": []}
    for epoch in epochs:
        models.load_weights(model, files[epoch])
        row = rows.setdefault(f"epoch {epoch + 1}", [])
        found = pretext.predictions(model, annotations, num_faces, identity.face_window)
        for _, clip, mask, prediction in found:
            shown = reconstruct(
                clip, mask, prediction, tubelet=model.tubelet,
                normalised=pretext.objective.normalise, group_frames=pretext.objective.group_frames,
            ).rows  # fmt: skip
            middle = len(clip) // 2
            row.append(shown["prediction with\nvisible put back"][middle])
            if epoch == epochs[0]:
                rows["original"].append(clip[middle])
                rows["masked"].append(shown["masked"][middle])
    if not row:
        raise ValueError(f"none of the chosen videos of {flags.data_path} can be read")
    text = [f"{int(mask.sum())} of {mask.size} tubelets hidden; visible ones are put back."]
    if pretext.objective.normalise:
        text.append("Hidden ones have the mean and contrast of the original's, as in training.")
    return draw_rows({name: np.stack(faces) for name, faces in rows.items()}, text)


@tells_user()
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    parser = argparse.ArgumentParser("python -m svfap.engine.pretext.epochs", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="directory of a pre-training")
    parser.add_argument("--num_faces", type=int, default=6, help="videos, default 6")
    parser.add_argument("--num_rows", type=int, default=8, help="checkpoints, default up to 8")
    parser.add_argument("--data_path", metavar="CSV", help="other videos than its own")
    parser.add_argument("--device", default="auto", help="as for run_pretrain.py")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default RUN/epochs.png")
    own = parser.parse_args(arguments)
    if min(own.num_faces, own.num_rows) < 1:
        parser.error("--num_faces and --num_rows must be at least 1")
    set_up_logging(is_main=True)
    figure = epochs_figure(
        own.run, num_faces=own.num_faces, num_rows=own.num_rows, device=own.device,
        data_path=own.data_path,
    )  # fmt: skip
    target = own.output or own.run / "epochs.png"
    save_figure(figure, target)
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The tables of flags and their parsers; `engine.flags.parsing` reads and checks them.

Flag names and meanings follow the released scripts (SVFAP, MAE-DFER, VideoMAE), so that scripts
users already have keep parsing; what is new is marked so in docs and CHANGELOG.
"""

from svfap.engine.flags import finetuning, pretraining, shared
from svfap.engine.flags.flag import FINETUNING, PRETRAINING, STAGES, Table
from svfap.engine.flags.flag_parser import Parser

__all__ = ["STAGES", "TABLES", "finetuning_parser", "pretraining_parser"]

_MODEL = (shared.MODEL, shared.TPSBT, shared.LGI_AND_VIT)
_RUN = (shared.RUN, shared.CHECKPOINTS)
TABLES = {
    PRETRAINING: Table(
        PRETRAINING,
        (
            pretraining.OBJECTIVE,
            *_MODEL,
            pretraining.MASKING,
            pretraining.CONTRASTING,
            shared.OPTIMISATION,
            shared.data_group("CSV of clips"),
            pretraining.AUGMENTATION,
            *_RUN,
            pretraining.PICTURES,
            pretraining.PROBE,
        ),
    ),
    FINETUNING: Table(
        FINETUNING,
        (
            *_MODEL,
            finetuning.HEAD,
            shared.OPTIMISATION,
            shared.data_group("folder with train.csv, val.csv, test.csv"),
            finetuning.AUGMENTATION,
            finetuning.EVALUATION,
            *_RUN,
        ),
    ),
}


def pretraining_parser() -> Parser:
    """Parser of `run_pretrain.py` (recipes: SVFAP Sec. 4.1.2)."""
    return TABLES[PRETRAINING].parser("Pre-train an encoder on face video without labels.")


def finetuning_parser() -> Parser:
    """Parser of `run_finetune.py` (recipes: SVFAP Sec. 4.2)."""
    return TABLES[FINETUNING].parser(
        "Fine-tune a pre-trained encoder on labelled face video, or evaluate it.",
    )

#!/usr/bin/env bash
# Fine-tune MAE-DFER on FER2013 (settings of MAE-DFER Sec. 4): 100 epochs, 4 GPUs x 24 clips.
#
#   bash scripts/fer2013/finetune_maedfer_base.sh [more flags of run_finetune.py]
#
# Variables: scripts/recipes.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../recipes.sh"
finetune maedfer_base fer2013 "$@"

#!/usr/bin/env bash
# Fine-tune MAE-DFER on your own data (settings of MAE-DFER Sec. 4): 100 epochs, 4 GPUs x 24 clips.
#
#   bash scripts/custom/finetune_maedfer_base.sh [more flags of run_finetune.py]
#
# Variables: scripts/recipes.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../recipes.sh"
finetune maedfer_base custom "$@"

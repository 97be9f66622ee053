#!/usr/bin/env bash
# Fine-tune MAE-DFER on FERV39k (MAE-DFER Sec. 4): 100 epochs, 4 GPUs x 30 clips.
#
#   bash scripts/ferv39k/finetune_maedfer_base.sh [more flags of run_finetune.py]
#
# Variables: scripts/recipes.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../recipes.sh"
finetune maedfer_base ferv39k "$@"

#!/usr/bin/env bash
# Fine-tune VideoMAE-B on FERV39k (settings of MAE-DFER): 100 epochs, 4 GPUs x 30 clips.
#
#   bash scripts/ferv39k/finetune_videomae_base.sh [more flags of run_finetune.py]
#
# Variables: scripts/recipes.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../recipes.sh"
finetune videomae_base ferv39k "$@"

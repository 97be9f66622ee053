#!/usr/bin/env bash
# Fine-tune VideoMAE-B on Werewolf-XL (settings of MAE-DFER): 100 epochs, 4 GPUs x 24 clips.
#
#   bash scripts/werewolf_xl/finetune_videomae_base.sh [more flags of run_finetune.py]
#
# Variables: scripts/recipes.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../recipes.sh"
finetune videomae_base werewolf_xl "$@"

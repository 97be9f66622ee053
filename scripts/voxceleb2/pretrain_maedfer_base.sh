#!/usr/bin/env bash
# Pre-train MAE-DFER on VoxCeleb2 (MAE-DFER Sec. 4): 100 epochs, 4 GPUs x 40 clips.
#
#   bash scripts/voxceleb2/pretrain_maedfer_base.sh [more flags of run_pretrain.py]
#
# Variables: scripts/recipes.sh. The same command goes on with a stopped run.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../recipes.sh"
pretrain maedfer_base "$@"

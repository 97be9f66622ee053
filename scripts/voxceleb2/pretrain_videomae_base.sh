#!/usr/bin/env bash
# Pre-train VideoMAE-B on VoxCeleb2 (settings of MAE-DFER): 100 epochs, 4 GPUs x 40 clips.
#
#   bash scripts/voxceleb2/pretrain_videomae_base.sh [more flags of run_pretrain.py]
#
# Variables: scripts/recipes.sh. The same command goes on with a stopped run.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../recipes.sh"
pretrain videomae_base "$@"

#!/usr/bin/env bash
# Pre-train SVFAP-B on VoxCeleb2 (SVFAP Sec. 4.1): 100 epochs, 4 GPUs x 64 clips.
#
#   bash scripts/voxceleb2/pretrain_svfap_base.sh [more flags of run_pretrain.py]
#
# Variables: scripts/recipes.sh. The same command goes on with a stopped run.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../recipes.sh"
pretrain svfap_base "$@"

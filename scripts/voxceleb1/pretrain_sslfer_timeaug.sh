#!/usr/bin/env bash
# Pre-train ResNet-50 on VoxCeleb1 as SSL-FER's TimeAug: 300 epochs of 256 pairs.
#
#   bash scripts/voxceleb1/pretrain_sslfer_timeaug.sh [more flags of run_pretrain.py]
#
# Variables: scripts/sslfer.sh. The same command goes on with a stopped run.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../sslfer.sh"
sslfer_pretrain timeaug "$@"

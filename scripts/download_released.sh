#!/usr/bin/env bash
# Fetch released weights of SVFAP and MAE-DFER to where the recipes look for them.
#
#   bash scripts/download_released.sh                      SVFAP-B pre-trained on VoxCeleb2
#   bash scripts/download_released.sh 'svfap-base-dfew*'   fine-tuned, five folds
#   bash scripts/download_released.sh --list               what there is
#
# All arguments go to `python -m models.download`. Variables: PYTHON.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if (($# == 0)); then set -- svfap-base-voxceleb2; fi
exec "$PYTHON" -m models.download "$@"

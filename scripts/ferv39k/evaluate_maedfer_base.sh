#!/usr/bin/env bash
# Evaluate fine-tuned MAE-DFER on the test part of FERV39k.
#
#   bash scripts/ferv39k/evaluate_maedfer_base.sh [more flags of run_finetune.py]
#
# Variables: scripts/recipes.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../recipes.sh"
evaluate maedfer_base ferv39k "$@"

#!/usr/bin/env bash
# Evaluate fine-tuned SVFAP-B on the test part of DFEW.
#
#   bash scripts/dfew/evaluate_svfap_base.sh [more flags of run_finetune.py]
#
# Variables: scripts/recipes.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../recipes.sh"
evaluate svfap_base dfew "$@"

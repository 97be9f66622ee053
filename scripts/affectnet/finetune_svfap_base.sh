#!/usr/bin/env bash
# Fine-tune SVFAP-B on AffectNet (settings of SVFAP Sec. 4.2): 100 epochs, 4 GPUs x 16 clips.
#
#   bash scripts/affectnet/finetune_svfap_base.sh [more flags of run_finetune.py]
#
# Variables: TARGET (scripts/affectnet/data.sh) and those of scripts/recipes.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../recipes.sh"
finetune svfap_base affectnet "$@"

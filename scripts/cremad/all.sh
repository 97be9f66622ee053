#!/usr/bin/env bash
# CREMA-D in one command: fetches the videos from its repository on GitHub (Open Database License),
# crops faces, packs, fine-tunes on the authors' folds and compares with the published numbers.
#
#   bash scripts/cremad/all.sh [--weights released|none|FILE] [flags of run_finetune.py]
#
# --help, and variables: scripts/real_data.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
source scripts/real_data.sh
real_data cremad VideoFlash "$@"

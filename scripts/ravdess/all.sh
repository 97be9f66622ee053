#!/usr/bin/env bash
# RAVDESS in one command: fetches the videos from Zenodo's record 1188976 (CC BY-NC-SA 4.0), crops
# faces, packs, fine-tunes on the authors' folds and compares with the published numbers.
#
#   bash scripts/ravdess/all.sh [--weights released|none|FILE] [flags of run_finetune.py]
#
# --help, and variables: scripts/real_data.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
source scripts/real_data.sh
real_data ravdess videos "$@"

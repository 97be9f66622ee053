#!/usr/bin/env bash
# FER2013, SSL-FER: fine-tuned from SSL-FER's weights; settings are ours.
#
#   bash scripts/fer2013/finetune_sslfer.sh [more flags of run_finetune.py]
#
# Variables: scripts/sslfer.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../sslfer.sh"
sslfer_finetune fer2013 "${DATA_DIR:-saved/data/fer2013}" \
  'python -m preprocess.fer2013 --dataset_dir DIR (docs/datasets_lab.md)' "$@"

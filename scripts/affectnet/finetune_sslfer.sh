#!/usr/bin/env bash
# AffectNet, SSL-FER: fine-tuned from SSL-FER's weights; settings are ours.
#
#   bash scripts/affectnet/finetune_sslfer.sh [more flags of run_finetune.py]
#   TARGET=both bash scripts/affectnet/finetune_sslfer.sh
#
# Variables: TARGET (expression, valence_arousal or both) and those of scripts/sslfer.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../sslfer.sh"
TARGET=${TARGET:-expression}
sslfer_finetune "affectnet/$TARGET" "${DATA_DIR:-saved/data/affectnet/$TARGET}" \
  'python -m preprocess.affectnet --dataset_dir DIR (docs/datasets_lab.md)' "$@"

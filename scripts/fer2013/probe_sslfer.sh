#!/usr/bin/env bash
# FER2013, SSL-FER: a linear probe and a k-NN vote on frozen features.
#
#   bash scripts/fer2013/probe_sslfer.sh [more flags of engine.probe]
#
# Variables: scripts/sslfer.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../sslfer.sh"
sslfer_probe fer2013 "${DATA_DIR:-saved/data/fer2013}" \
  'python -m preprocess.fer2013 --dataset_dir DIR (docs/datasets_lab.md)' "$@"

#!/usr/bin/env bash
# AffectNet, SSL-FER: a linear probe and a k-NN vote on frozen features.
#
#   bash scripts/affectnet/probe_sslfer.sh [more flags of engine.probe]
#   TARGET=valence_arousal bash scripts/affectnet/probe_sslfer.sh
#
# Variables: TARGET (expression or valence_arousal) and those of scripts/sslfer.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../sslfer.sh"
TARGET=${TARGET:-expression}
sslfer_probe "affectnet/$TARGET" "${DATA_DIR:-saved/data/affectnet/$TARGET}" \
  'python -m preprocess.affectnet --dataset_dir DIR (docs/datasets_lab.md)' "$@"

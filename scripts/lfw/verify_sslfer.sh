#!/usr/bin/env bash
# LFW, SSL-FER: how much identity the frozen features hold, by ten-fold verification.
#
#   bash scripts/lfw/verify_sslfer.sh [more flags of engine.verify_faces]
#
# The window is the middle of the 250 px images, about what scikit-learn's copy shows. Variables:
# those of scripts/sslfer.sh; DATA_DIR holds pairs.csv.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../sslfer.sh"
pairs=${DATA_DIR:-saved/data/lfw}/pairs.csv
need_file "$pairs" 'make it: python -m preprocess.lfw --dataset_dir DIR (docs/contrastive.md)'
sslfer_weights
out=${OUTPUT_DIR:-saved/model/probes/lfw}
interruptible "$PYTHON" -m engine.verify_faces "$start" --pairs "$pairs" \
  --face_window 70 62 125 125 --batch_size "${BATCH_SIZE:-256}" \
  --num_workers "${NUM_WORKERS:-16}" --output "$out/sslfer_$ROW.json" "$@"

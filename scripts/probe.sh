#!/usr/bin/env bash
# How good the frozen features of pre-trained MODEL (scripts/models.sh) are on DATASET, one of
# scripts/datasets.sh: a linear probe and a k-NN vote; or on lfw: how much identity they hold, by
# ten-fold verification. Further flags go to engine.probe or engine.verify_faces and win.
#
#   bash scripts/probe.sh MODEL DATASET [flags]
#   TARGET=valence_arousal bash scripts/probe.sh sslfer_all affectnet
#
# Variables: DATA_DIR, DATA_ROOT (not of lfw), TARGET, PRETRAINED, OUTPUT_DIR, BATCH_SIZE and
# NUM_WORKERS as for scripts/finetune.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if (($# < 2)); then usage; fi
use_model "$1"
start=${PRETRAINED:-$START_FROM}
need_start() { need_weights "$start" "pre-train first, or set PRETRAINED to a file"; }
loading=(--batch_size "${BATCH_SIZE:-256}" --num_workers "${NUM_WORKERS:-16}")
if [[ $2 == lfw ]]; then
  pairs=${DATA_DIR:-saved/data/lfw}/pairs.csv
  need_file "$pairs" "make it: python -m preprocess.lfw --dataset_dir DIR (docs/contrastive.md)"
  need_start
  # The window is the middle of the 250 px images, about what scikit-learn's copy shows.
  interruptible "$PYTHON" -m engine.verify_faces "$start" --pairs "$pairs" \
    --face_window 70 62 125 125 "${loading[@]}" \
    --output "${OUTPUT_DIR:-saved/model/probes/lfw}/$RECIPE.json" "${@:3}"
else
  use_data "$2" lfw
  need_file "$DATA_DIR/train.csv" "make it: $DATA_COMMAND; of folds, set DATA_DIR to one"
  need_start
  out=${OUTPUT_DIR:-saved/model/probes/$RUN_FOLDER}
  mkdir -p "$out"
  interruptible "$PYTHON" -m engine.probe "$start" --data_path "$DATA_DIR" \
    --output "$out/$RECIPE.json" -- ${DATA_ROOT:+--data_root "$DATA_ROOT"} "${loading[@]}" "${@:3}"
fi

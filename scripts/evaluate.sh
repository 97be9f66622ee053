#!/usr/bin/env bash
# Evaluate MODEL (scripts/models.sh), fine-tuned by scripts/finetune.sh, on the test part of DATASET
# (scripts/datasets.sh): all folds, then one table. Further flags go to run_finetune.py and win.
#
#   bash scripts/evaluate.sh MODEL DATASET [flags]
#   CHECKPOINT=checkpoint-best.pth bash scripts/evaluate.sh svfap_base dfew
#
# Variables: RUNS and CHECKPOINT, the fine-tuned runs and which of their files; those of
# scripts/finetune.sh but PRETRAINED and UPDATE_FREQ. GPUS is 1.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if (($# < 2)); then usage; fi
use_model "$1"
use_data "$2"
GPUS=${GPUS:-1}
runs=${RUNS:-$RUN_DIR} checkpoint=${CHECKPOINT:-checkpoint-last.pth}
fold=${FOLDS:+/{fold\}}
for number in ${FOLDS:-''}; do
  name=$(fold_name "$number")
  need_file "$runs${name:+/$name}/$checkpoint" "fine-tune first, or set RUNS, FOLDS and CHECKPOINT"
done

run_folds "$DATA_DIR" "$FOLDS" "${OUTPUT_DIR:-$runs/evaluation-${checkpoint%.*}}" \
  --eval \
  --resume "$runs$fold/$checkpoint" \
  --model "$MODEL" \
  --input_size 160 \
  --short_side_size 160 \
  --num_frames 16 \
  --sampling_rate "$SAMPLING_RATE" \
  "${MODEL_FLAGS[@]}" \
  "${DATA_FLAGS[@]}" \
  ${DATA_ROOT:+--data_root "$DATA_ROOT"} \
  --test_num_segment "$TEST_VIEWS" \
  --test_num_crop "$TEST_VIEWS" \
  --dist_eval \
  --batch_size "${BATCH_SIZE:-16}" \
  --num_workers "${NUM_WORKERS:-16}" \
  "${@:3}"

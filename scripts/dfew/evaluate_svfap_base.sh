#!/usr/bin/env bash
# Evaluate fine-tuned SVFAP-B on the test part of DFEW, five folds.
#
#   bash scripts/dfew/evaluate_svfap_base.sh [more flags of run_finetune.py]
#
# Variables: GPUS FOLDS DATA_DIR DATA_ROOT RUNS CHECKPOINT OUTPUT_DIR BATCH_SIZE NUM_WORKERS, and
# those of scripts/common.sh. RUNS holds split0N/CHECKPOINT of the runs to evaluate.
# Folds that are evaluated already are skipped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

GPUS=${GPUS:-1}
FOLDS=${FOLDS:-1 2 3 4 5}
DATA_DIR=${DATA_DIR:-saved/data/dfew/org}
DATA_ROOT=${DATA_ROOT:-}
RUNS=${RUNS:-saved/model/finetuning/dfew/svfap_base_frame_16x4_lr1e-3_e100}
CHECKPOINT=${CHECKPOINT:-checkpoint-last.pth}
OUTPUT_DIR=${OUTPUT_DIR:-$RUNS/evaluation-${CHECKPOINT%.*}}
BATCH_SIZE=${BATCH_SIZE:-16}
NUM_WORKERS=${NUM_WORKERS:-16}

read -ra folds <<<"$FOLDS"
run_dirs=()
for fold in "${folds[@]}"; do
  split=$(printf 'split%02d' "$fold")
  run_dir=$OUTPUT_DIR/$split
  run_dirs+=("$run_dir")
  if finished "$run_dir"; then continue; fi
  need_file "$RUNS/$split/$CHECKPOINT" "fine-tune fold $fold first, or set RUNS and CHECKPOINT"
  launch run_finetune.py \
    --eval \
    --data_set DFEW \
    --nb_classes 7 \
    --model svfap_base_patch16_160 \
    --data_path "$DATA_DIR/$split" \
    ${DATA_ROOT:+--data_root "$DATA_ROOT"} \
    --resume "$RUNS/$split/$CHECKPOINT" \
    --output_dir "$run_dir" \
    --batch_size "$BATCH_SIZE" \
    --input_size 160 \
    --short_side_size 160 \
    --num_frames 16 \
    --sampling_rate 4 \
    --dist_eval \
    --test_num_segment 2 \
    --test_num_crop 2 \
    --stage_depths 12 6 3 \
    --temporal_kernel_size 2 \
    --num_bottleneck_tokens 8 \
    --num_workers "$NUM_WORKERS" \
    "$@"
done
"$PYTHON" -m engine.summarize "${run_dirs[@]}"

#!/usr/bin/env bash
# Evaluate fine-tuned SVFAP-B on the test part of FERV39k, its one split.
#
#   bash scripts/ferv39k/evaluate_svfap_base.sh [more flags of run_finetune.py]
#
# Variables: GPUS DATA_DIR DATA_ROOT RUNS CHECKPOINT OUTPUT_DIR BATCH_SIZE NUM_WORKERS, and
# those of scripts/common.sh. RUNS holds CHECKPOINT of the runs to evaluate.
# Nothing is done when it is evaluated already.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

GPUS=${GPUS:-1}
DATA_DIR=${DATA_DIR:-saved/data/ferv39k/all_scenes}
DATA_ROOT=${DATA_ROOT:-}
RUNS=${RUNS:-saved/model/finetuning/ferv39k/svfap_base_frame_16x1_lr1e-3_e100}
CHECKPOINT=${CHECKPOINT:-checkpoint-last.pth}
OUTPUT_DIR=${OUTPUT_DIR:-$RUNS/evaluation-${CHECKPOINT%.*}}
BATCH_SIZE=${BATCH_SIZE:-16}
NUM_WORKERS=${NUM_WORKERS:-16}

if ! finished "$OUTPUT_DIR"; then
  need_file "$RUNS/$CHECKPOINT" "fine-tune first, or set RUNS and CHECKPOINT"
  launch run_finetune.py \
    --eval \
    --data_set FERV39k \
    --nb_classes 7 \
    --model svfap_base_patch16_160 \
    --data_path "$DATA_DIR" \
    ${DATA_ROOT:+--data_root "$DATA_ROOT"} \
    --resume "$RUNS/$CHECKPOINT" \
    --output_dir "$OUTPUT_DIR" \
    --batch_size "$BATCH_SIZE" \
    --input_size 160 \
    --short_side_size 160 \
    --num_frames 16 \
    --sampling_rate 1 \
    --dist_eval \
    --test_num_segment 2 \
    --test_num_crop 2 \
    --stage_depths 12 6 3 \
    --temporal_kernel_size 2 \
    --num_bottleneck_tokens 8 \
    --num_workers "$NUM_WORKERS" \
    "$@"
fi
"$PYTHON" -m engine.summarize "$OUTPUT_DIR"

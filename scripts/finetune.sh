#!/usr/bin/env bash
# Fine-tune MODEL (scripts/models.sh) on DATASET (scripts/datasets.sh) with the settings of the
# papers: all folds, then one table. Further flags go to run_finetune.py and win.
#
#   bash scripts/finetune.sh MODEL DATASET [flags]
#   GPUS=1 UPDATE_FREQ=4 FOLDS="1 2" bash scripts/finetune.sh svfap_base dfew
#
# Variables:
#   GPUS         processes on this machine: 4, SSL-FER 1; and the others of scripts/common.sh
#   FOLDS        which folds, where the data set has some
#   ARRAY_TASK   only the n-th of these; without one there is nothing to do
#   DATA_DIR     folder of the CSVs, or of the folds' folders
#   DATA_ROOT    prefix of relative paths in the CSVs
#   TARGET       which labels, where there is a choice (scripts/datasets.sh)
#   PRETRAINED   the weights to start from: a file or hf://owner/repo; none: from scratch
#   OUTPUT_DIR   where the runs go
#   BATCH_SIZE UPDATE_FREQ NUM_WORKERS   clips per process; batches per step; loader processes
# The global batch is that of scripts/pretrain.sh. Finished folds are left alone, stopped ones go on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if (($# < 2)); then usage; fi
use_model "$1"
use_data "$2"
case $RECIPE in
  sslfer_*) # the published evaluation code does not exist; these settings are ours
    one_of "data set for $RECIPE" "$2" affectnet fer2013
    GPUS=${GPUS:-1} DATA_FLAGS=(--data_set custom)
    settings=(
      --opt adamw
      --lr 5e-4
      --weight_decay 0.05
      --warmup_epochs 2
      --epochs 30
      --mixup 0
      --cutmix 0
      --smoothing 0
      --aa none
      --reprob 0
      --scale 0.7 1)
    ;;
  *)
    GPUS=${GPUS:-4}
    settings=(
      --num_sample 1
      --input_size 160
      --short_side_size 160
      --num_frames 16
      --sampling_rate "$SAMPLING_RATE"
      --opt adamw
      --lr 1e-3
      --opt_betas 0.9 0.999
      --weight_decay 0.05
      --epochs 100
      --dist_eval)
    ;;
esac
start=${PRETRAINED:-$START_FROM}
if [[ $start == none ]]; then
  start= RUN_DIR=${RUN_DIR/%sslfer_*/sslfer_scratch}
else
  need_weights "$start" "pre-train first, or set PRETRAINED to a file or to none (from scratch)"
fi
batch=$(batch_size "$FINETUNE_BATCH")

run_folds "$DATA_DIR" "$FOLDS" "${OUTPUT_DIR:-$RUN_DIR}" \
  --model "$MODEL" \
  "${MODEL_FLAGS[@]}" \
  ${FINETUNE_FLAGS[@]+"${FINETUNE_FLAGS[@]}"} \
  "${settings[@]}" \
  "${DATA_FLAGS[@]}" \
  ${DATA_ROOT:+--data_root "$DATA_ROOT"} \
  ${start:+--finetune "$start"} \
  --test_num_segment "$TEST_VIEWS" \
  --test_num_crop "$TEST_VIEWS" \
  --save_ckpt_freq 1000 \
  --batch_size "$batch" \
  --update_freq "${UPDATE_FREQ:-1}" \
  --num_workers "${NUM_WORKERS:-16}" \
  "${@:3}"

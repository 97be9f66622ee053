#!/usr/bin/env bash
# Pre-train SVFAP-B on VoxCeleb2 (SVFAP Sec. 4.1): 100 epochs, 4 GPUs x 64 clips.
#
#   bash scripts/voxceleb2/pretrain_svfap_base.sh [more flags of run_pretrain.py]
#
# Variables: GPUS DATA_PATH DATA_ROOT OUTPUT_DIR BATCH_SIZE UPDATE_FREQ NUM_WORKERS, and those of
# scripts/common.sh. GPUS x BATCH_SIZE x UPDATE_FREQ = 256 keeps the recipe's global batch: one GPU
# that holds 64 clips takes GPUS=1 UPDATE_FREQ=4. The same command goes on with a stopped run.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

GPUS=${GPUS:-4}
DATA_PATH=${DATA_PATH:-saved/data/voxceleb2/info_clean.csv}
DATA_ROOT=${DATA_ROOT:-}
NAME=svfap_pretrain_base_patch16_160_frame_16x4_tube_mask_ratio_0.9_e100
OUTPUT_DIR=${OUTPUT_DIR:-saved/model/pretraining/voxceleb2/$NAME}
BATCH_SIZE=${BATCH_SIZE:-64}
UPDATE_FREQ=${UPDATE_FREQ:-1}
NUM_WORKERS=${NUM_WORKERS:-16}

need_file "$DATA_PATH" "make it: python -m preprocess.voxceleb2 --dataset_dir DIR (docs/data.md)"

launch run_pretrain.py \
  --data_set voxceleb2 \
  --data_path "$DATA_PATH" \
  ${DATA_ROOT:+--data_root "$DATA_ROOT"} \
  --mask_type tube \
  --mask_ratio 0.9 \
  --input_size 160 \
  --model pretrain_svfap_base_patch16_160 \
  --decoder_depth 4 \
  --batch_size "$BATCH_SIZE" \
  --update_freq "$UPDATE_FREQ" \
  --num_samples 1 \
  --num_frames 16 \
  --sampling_rate 4 \
  --opt adamw \
  --opt_betas 0.9 0.95 \
  --warmup_epochs 5 \
  --save_ckpt_freq 10 \
  --epochs 100 \
  --log_dir "$OUTPUT_DIR" \
  --output_dir "$OUTPUT_DIR" \
  --lr 3e-4 \
  --stage_depths 12 6 3 \
  --temporal_kernel_size 2 \
  --num_bottleneck_tokens 8 \
  --num_workers "$NUM_WORKERS" \
  "$@"

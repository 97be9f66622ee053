#!/usr/bin/env bash
# Pre-train MODEL (scripts/models.sh) with the settings of its paper: masked autoencoders on
# VoxCeleb2, SSL-FER on VoxCeleb1. Further flags go to run_pretrain.py and win.
#
#   bash scripts/pretrain.sh MODEL [flags]
#   bash scripts/pretrain.sh svfap_base --dry_run
#
# Variables:
#   GPUS         processes on this machine: 4, SSL-FER 1; and the others of scripts/common.sh
#   DATA_PATH    the CSV of clips, or of folders of frames
#   DATA_ROOT    prefix of relative paths in it
#   OUTPUT_DIR   where the run goes
#   BATCH_SIZE UPDATE_FREQ NUM_WORKERS   clips per process; batches per step; loader processes
#   LANDMARKS DESCRIPTOR DESCRIPTOR_WEIGHTS   SSL-FER: landmark files, if not beside the frames; what
#                tells false negatives: resnet18 with its ImageNet weights, or hog
# NNODES x GPUS x BATCH_SIZE x UPDATE_FREQ is the global batch that the rate was chosen for: one GPU
# takes UPDATE_FREQ=4 in place of four; several machines share the clips by default. Pairs of SSL-FER
# are contrasted within a batch of all GPUs, not over UPDATE_FREQ. The same command goes on with a
# stopped run.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if (($# < 1)); then usage; fi
use_model "$1"
case $RECIPE in
  sslfer_*)
    GPUS=${GPUS:-1} DATA_SET=voxceleb1 DOCS=docs/contrastive.md
    settings=(
      --objective contrastive
      --model "$MODEL"
      --part_mask 0.8
      --temperature 0.07
      --projection_dim 128
      --opt adam
      --lr 3e-4
      --min_lr 0
      --weight_decay 1e-4
      --warmup_epochs 10
      --save_ckpt_freq 50
      ${LANDMARKS:+--landmarks "$LANDMARKS"})
    ;;
  *)
    GPUS=${GPUS:-4} DATA_SET=voxceleb2 DOCS=docs/data.md
    settings=(
      --data_set voxceleb2
      --model "pretrain_$MODEL"
      --mask_ratio 0.9
      --decoder_depth 4
      --input_size 160
      --num_frames 16
      --sampling_rate 4
      --num_samples 1
      --opt adamw
      --opt_betas 0.9 0.95
      --lr 3e-4
      --warmup_epochs 5
      --epochs 100
      --save_ckpt_freq 10)
    ;;
esac
data_path=${DATA_PATH:-saved/data/$DATA_SET/info_clean.csv}
run_dir=${OUTPUT_DIR:-$PRETRAIN_RUN}
batch=$(batch_size "$PRETRAIN_BATCH")
need_file "$data_path" "make it: python -m preprocess.$DATA_SET --dataset_dir DIR ($DOCS)"

launch run_pretrain.py \
  "${settings[@]}" \
  "${MODEL_FLAGS[@]}" \
  "${PRETRAIN_FLAGS[@]}" \
  --data_path "$data_path" \
  ${DATA_ROOT:+--data_root "$DATA_ROOT"} \
  --batch_size "$batch" \
  --update_freq "${UPDATE_FREQ:-1}" \
  --log_dir "$run_dir" \
  --output_dir "$run_dir" \
  --num_workers "${NUM_WORKERS:-16}" \
  "${@:2}"

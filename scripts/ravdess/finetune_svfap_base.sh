#!/usr/bin/env bash
# Fine-tune SVFAP-B on RAVDESS, six folds by actor, 8 classes: 100 epochs, 4 GPUs x 16 clips.
#
#   bash scripts/ravdess/finetune_svfap_base.sh [more flags of run_finetune.py]
#
# Variables: GPUS FOLDS DATA_DIR DATA_ROOT PRETRAINED OUTPUT_DIR BATCH_SIZE UPDATE_FREQ NUM_WORKERS,
# and those of scripts/common.sh. GPUS x BATCH_SIZE x UPDATE_FREQ = 64 keeps the recipe's batch.
# PRETRAINED=none trains from scratch. Finished folds are skipped, a stopped one goes on.
# The published scripts have no recipe for this data set: it is the one of DFEW. Crop faces first
# (python -m preprocess.faces); the papers use similarity-aligned crops.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

GPUS=${GPUS:-4}
FOLDS=${FOLDS:-1 2 3 4 5 6}
DATA_DIR=${DATA_DIR:-saved/data/ravdess}
DATA_ROOT=${DATA_ROOT:-}
NAME=svfap_pretrain_base_patch16_160_frame_16x4_tube_mask_ratio_0.9_e100
PRETRAINED=${PRETRAINED:-saved/model/pretraining/voxceleb2/$NAME/checkpoint-99.pth}
OUTPUT_DIR=${OUTPUT_DIR:-saved/model/finetuning/ravdess/svfap_base_frame_16x4_lr1e-3_e100}
BATCH_SIZE=${BATCH_SIZE:-16}
UPDATE_FREQ=${UPDATE_FREQ:-1}
NUM_WORKERS=${NUM_WORKERS:-16}

if [[ $PRETRAINED == none ]]; then
  PRETRAINED=
else
  need_file "$PRETRAINED" "pre-train first, or set PRETRAINED to a file or to none (from scratch)"
fi

read -ra folds <<<"$FOLDS"
run_dirs=()
for fold in "${folds[@]}"; do
  split=$(printf 'split%02d' "$fold")
  run_dir=$OUTPUT_DIR/$split
  run_dirs+=("$run_dir")
  if finished "$run_dir"; then continue; fi
  need_file "$DATA_DIR/$split" \
    "make it: python -m preprocess.ravdess --dataset_dir DIR (docs/datasets_lab.md)"
  launch run_finetune.py \
    --model svfap_base_patch16_160 \
    --data_set RAVDESS \
    --nb_classes 8 \
    --data_path "$DATA_DIR/$split" \
    ${DATA_ROOT:+--data_root "$DATA_ROOT"} \
    ${PRETRAINED:+--finetune "$PRETRAINED"} \
    --log_dir "$run_dir" \
    --output_dir "$run_dir" \
    --batch_size "$BATCH_SIZE" \
    --update_freq "$UPDATE_FREQ" \
    --num_sample 1 \
    --input_size 160 \
    --short_side_size 160 \
    --save_ckpt_freq 1000 \
    --num_frames 16 \
    --sampling_rate 4 \
    --opt adamw \
    --lr 1e-3 \
    --opt_betas 0.9 0.999 \
    --weight_decay 0.05 \
    --epochs 100 \
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

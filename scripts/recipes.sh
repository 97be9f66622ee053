# shellcheck shell=bash
# Sourced by the recipes: everything they share. A recipe names a model (a function below) and a
# data set (scripts/DATASET/data.sh); flags after these go to run_*.py and win. Variables:
#   GPUS         processes on this machine, and the others of scripts/common.sh
#   DATA_PATH    pre-training: the CSV of clips
#   FOLDS        fine-tuning: which folds, where the data set has some
#   ARRAY_TASK   only the n-th of these folds; without one there is nothing to do
#   DATA_DIR     fine-tuning: folder of the CSVs, or of the folds' folders
#   DATA_ROOT    prefix of relative paths in the CSVs
#   PRETRAINED   weights that fine-tuning starts from; none: from scratch
#   RUNS CHECKPOINT   evaluation: the fine-tuned runs, and which of their files
#   OUTPUT_DIR   where the runs go
#   BATCH_SIZE UPDATE_FREQ NUM_WORKERS   clips per process; batches per step; loader processes
# NNODES x GPUS x BATCH_SIZE x UPDATE_FREQ is the global batch that learning rates were chosen for: one
# GPU takes UPDATE_FREQ=4 in place of four; several machines share the clips by default. Finished folds
# are left alone, stopped ones go on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# ---- models: flags of both stages, the pre-training that fine-tuning starts from, clips per GPU

svfap_base() {
  MODEL=svfap_base_patch16_160
  MODEL_FLAGS=(--stage_depths 12 6 3 --temporal_kernel_size 2 --num_bottleneck_tokens 8)
  PRETRAIN_FLAGS=(--mask_type tube)
  PRETRAIN_RUN=svfap_pretrain_base_patch16_160_frame_16x4_tube_mask_ratio_0.9_e100
  PRETRAIN_BATCH=64 START_FROM=checkpoint-99.pth FINETUNE_BATCH=16
}

# Its authors pre-trained with 160 clips per step, fine-tuned with 3 x 32 (FERV39k 3 x 40), and
# started from epoch 50 of the 100 that the schedule is made for.
maedfer_base() {
  MODEL=maedfer_base_patch16_160
  MODEL_FLAGS=(--attn_type local_global --depth 16 --lg_region_size 2 5 10)
  FINETUNE_FLAGS=(--lg_classify_token_type region)
  PRETRAIN_FLAGS=(--mask_type part_window --part_win_size 2 5 10 --use_frame_diff_as_target)
  PRETRAIN_RUN=maedfer_pretrain_base_patch16_160_frame_16x4_part_window_mask_ratio_0.9_e100
  PRETRAIN_BATCH=40 START_FROM=checkpoint-49.pth FINETUNE_BATCH=24
}

# The papers compare with it under the settings of MAE-DFER; there is no released script.
videomae_base() {
  MODEL=videomae_base_patch16_160
  MODEL_FLAGS=(--attn_type joint)
  PRETRAIN_FLAGS=(--mask_type tube)
  PRETRAIN_RUN=videomae_pretrain_base_patch16_160_frame_16x4_tube_mask_ratio_0.9_e100
  PRETRAIN_BATCH=40 START_FROM=checkpoint-49.pth FINETUNE_BATCH=24
}

# ---- stages

# pretrain MODEL FLAGS...: on VoxCeleb2
pretrain() {
  use_model "$1"
  local data_path=${DATA_PATH:-saved/data/voxceleb2/info_clean.csv}
  local run_dir=${OUTPUT_DIR:-saved/model/pretraining/voxceleb2/$PRETRAIN_RUN}
  GPUS=${GPUS:-4}
  local batch
  share_batch "$PRETRAIN_BATCH"
  need_file "$data_path" "make it: python -m preprocess.voxceleb2 --dataset_dir DIR (docs/data.md)"
  launch run_pretrain.py \
    --data_set voxceleb2 \
    --data_path "$data_path" \
    ${DATA_ROOT:+--data_root "$DATA_ROOT"} \
    --model "pretrain_$MODEL" \
    "${MODEL_FLAGS[@]}" \
    "${PRETRAIN_FLAGS[@]}" \
    --mask_ratio 0.9 \
    --decoder_depth 4 \
    --input_size 160 \
    --num_frames 16 \
    --sampling_rate 4 \
    --num_samples 1 \
    --batch_size "$batch" \
    --update_freq "${UPDATE_FREQ:-1}" \
    --opt adamw \
    --opt_betas 0.9 0.95 \
    --lr 3e-4 \
    --warmup_epochs 5 \
    --epochs 100 \
    --save_ckpt_freq 10 \
    --log_dir "$run_dir" \
    --output_dir "$run_dir" \
    --num_workers "${NUM_WORKERS:-16}" \
    "${@:2}"
}

# finetune MODEL DATASET FLAGS...: all folds, then one table
finetune() {
  use_model "$1"
  use_data "$2"
  local runs=${OUTPUT_DIR:-$RUN_DIR} start=${PRETRAINED:-}
  GPUS=${GPUS:-4}
  if [[ $start == none ]]; then
    start=
  else
    start=${start:-saved/model/pretraining/voxceleb2/$PRETRAIN_RUN/$START_FROM}
    need_file "$start" "pre-train first, or set PRETRAINED to a file or to none (from scratch)"
  fi
  local fold batch flags=("${@:3}")
  share_batch "$FINETUNE_BATCH"
  for_each_fold "$runs" finetune_fold
  summarize
}

# finetune_fold DATA_DIR RUN_DIR; the rest as `finetune` has set it
finetune_fold() {
  need_file "$1" "make it: $DATA_COMMAND"
  launch run_finetune.py \
    --model "$MODEL" \
    "${MODEL_FLAGS[@]}" \
    ${FINETUNE_FLAGS[@]+"${FINETUNE_FLAGS[@]}"} \
    "${DATA_FLAGS[@]}" \
    --data_path "$1" \
    ${DATA_ROOT:+--data_root "$DATA_ROOT"} \
    ${start:+--finetune "$start"} \
    --log_dir "$2" \
    --output_dir "$2" \
    --batch_size "$batch" \
    --update_freq "${UPDATE_FREQ:-1}" \
    --num_sample 1 \
    --input_size 160 \
    --short_side_size 160 \
    --num_frames 16 \
    --sampling_rate "$SAMPLING_RATE" \
    --opt adamw \
    --lr 1e-3 \
    --opt_betas 0.9 0.999 \
    --weight_decay 0.05 \
    --epochs 100 \
    --save_ckpt_freq 1000 \
    --dist_eval \
    --test_num_segment 2 \
    --test_num_crop 2 \
    --num_workers "${NUM_WORKERS:-16}" \
    ${flags[@]+"${flags[@]}"}
}

# evaluate MODEL DATASET FLAGS...: fine-tuned runs on the test part
evaluate() {
  use_model "$1"
  use_data "$2"
  local sources=${RUNS:-$RUN_DIR} checkpoint=${CHECKPOINT:-checkpoint-last.pth}
  GPUS=${GPUS:-1}
  local fold flags=("${@:3}")
  for_each_fold "${OUTPUT_DIR:-$sources/evaluation-${checkpoint%.*}}" evaluate_fold
  summarize
}

# evaluate_fold DATA_DIR RUN_DIR; the rest as `evaluate` has set it
evaluate_fold() {
  local weights=$sources${fold:+/$fold}/$checkpoint
  need_file "$weights" "fine-tune${fold:+ $fold} first, or set RUNS and CHECKPOINT"
  launch run_finetune.py \
    --eval \
    --model "$MODEL" \
    "${MODEL_FLAGS[@]}" \
    "${DATA_FLAGS[@]}" \
    --data_path "$1" \
    ${DATA_ROOT:+--data_root "$DATA_ROOT"} \
    --resume "$weights" \
    --output_dir "$2" \
    --batch_size "${BATCH_SIZE:-16}" \
    --input_size 160 \
    --short_side_size 160 \
    --num_frames 16 \
    --sampling_rate "$SAMPLING_RATE" \
    --dist_eval \
    --test_num_segment 2 \
    --test_num_crop 2 \
    --num_workers "${NUM_WORKERS:-16}" \
    ${flags[@]+"${flags[@]}"}
}

# ---- what the stages use

# share_batch CLIPS: sets `batch`, the clips per process of one of NNODES machines
share_batch() {
  batch=${BATCH_SIZE:-}
  if [[ -n $batch ]]; then return; fi
  if (($1 % ${NNODES:-1})); then
    fail "$1 clips per GPU cannot be shared by $NNODES machines evenly; set BATCH_SIZE"
  fi
  batch=$(($1 / ${NNODES:-1}))
}

summarize() {
  if ((${#run_dirs[@]})); then "$PYTHON" -m engine.summarize "${run_dirs[@]}"; fi
}

use_model() {
  RECIPE=$1
  "$RECIPE"
}

use_data() {
  RUN_FOLDER=$1 RUN_DIR= SAMPLING_RATE=4
  source "scripts/$1/data.sh"
  local name=${RECIPE}_frame_16x${SAMPLING_RATE}_lr1e-3_e100
  RUN_DIR=${RUN_DIR:-saved/model/finetuning/$RUN_FOLDER/$name}
}

# for_each_fold RUNS FUNCTION: calls FUNCTION DATA_DIR RUN_DIR for every fold; `fold` is its folder's
# name, empty where the data set has one split; lists all in `run_dirs`.
for_each_fold() {
  local number numbers=()
  run_dirs=()
  read -ra numbers <<<"$FOLDS"
  if [[ -n ${ARRAY_TASK:-} ]]; then
    if ((ARRAY_TASK > (${#numbers[@]} ? ${#numbers[@]} : 1))); then
      echo "no fold for array task $ARRAY_TASK: nothing to do"
      return
    fi
    numbers=("${numbers[ARRAY_TASK - 1]-}")
  fi
  for number in "${numbers[@]-}"; do
    fold=${number:+$(printf 'split%02d' "$number")}
    run_dirs+=("$1${fold:+/$fold}")
    "$2" "$DATA_DIR${fold:+/$fold}" "$1${fold:+/$fold}"
  done
}

# shellcheck shell=bash
# Sourced by the recipes of SSL-FER: what they share. A recipe names a row of the paper's table
# (`sslfer_row` below); flags after it go to run_*.py and win. Variables:
#   GPUS         processes on this machine, and the others of scripts/common.sh; default 1
#   DATA_PATH    pre-training: the CSV of frame folders
#   LANDMARKS    pre-training: root of landmark files, if not beside the frames
#   DESCRIPTOR DESCRIPTOR_WEIGHTS   MaskFN: resnet18 (default) and its ImageNet weights, or hog
#   DATA_DIR     evaluation: folder of the CSVs
#   DATA_ROOT    prefix of relative paths in the CSVs (of LFW's pairs there is none)
#   ROW          evaluation: the recipe to evaluate (default all)
#   PRETRAINED   evaluation: other weights; fine-tuning: or none
#   OUTPUT_DIR   where the runs go
#   BATCH_SIZE UPDATE_FREQ NUM_WORKERS   pairs per process; batches per step; loader processes
# Pairs are contrasted within BATCH_SIZE x GPUS; accumulated batches are not (docs/contrastive.md).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

GPUS=${GPUS:-1}
SSLFER_MODEL=(--model timm/resnet50 --input_size 112 --num_frames 1 --sampling_rate 1)

# sslfer_row ROW: sets ROW_FLAGS and ROW_EPOCHS. Runs with FaceSwap took 500 epochs, the others 300.
# Two rows, of one strategy besides TimeAug, are not in the paper's table.
sslfer_row() {
  local time_aug=(--time_aug falling) hard=(--hard_negatives) swap=(--face_swap 0.8)
  local mask=(--false_negatives promote --false_negative_weight 0.8
    --descriptor "${DESCRIPTOR:-resnet18}"
    ${DESCRIPTOR_WEIGHTS:+--descriptor_weights "$DESCRIPTOR_WEIGHTS"})
  ROW_EPOCHS=300
  case $1 in
    simclr) ROW_FLAGS=() ;;
    timeaug) ROW_FLAGS=("${time_aug[@]}") ;;
    timeaug_hardneg) ROW_FLAGS=("${time_aug[@]}" "${hard[@]}") ;;
    timeaug_hardneg_cutmix) ROW_FLAGS=("${time_aug[@]}" "${hard[@]}" --cutmix 1.0) ;;
    timeaug_faceswap) ROW_FLAGS=("${time_aug[@]}" "${swap[@]}") ROW_EPOCHS=500 ;;
    timeaug_maskfn) ROW_FLAGS=("${time_aug[@]}" "${mask[@]}") ;;
    timeaug_faceswap_maskfn) ROW_FLAGS=("${time_aug[@]}" "${swap[@]}" "${mask[@]}") ROW_EPOCHS=500 ;;
    timeaug_hardneg_faceswap) ROW_FLAGS=("${time_aug[@]}" "${hard[@]}" "${swap[@]}") ROW_EPOCHS=500 ;;
    timeaug_hardneg_maskfn) ROW_FLAGS=("${time_aug[@]}" "${hard[@]}" "${mask[@]}") ;;
    all)
      ROW_FLAGS=("${time_aug[@]}" "${hard[@]}" "${swap[@]}" "${mask[@]}") ROW_EPOCHS=500
      ;;
    *) fail "unknown row $1" ;;
  esac
}

# sslfer_pretrain ROW FLAGS...: on VoxCeleb1's face frames
sslfer_pretrain() {
  sslfer_row "$1"
  local data_path=${DATA_PATH:-saved/data/voxceleb1/info_clean.csv}
  local run_dir=${OUTPUT_DIR:-saved/model/pretraining/voxceleb1/sslfer_$1}
  need_file "$data_path" "make it: python -m preprocess.voxceleb1 --dataset_dir DIR (docs/contrastive.md)"
  launch run_pretrain.py \
    --objective contrastive \
    --data_path "$data_path" \
    ${DATA_ROOT:+--data_root "$DATA_ROOT"} \
    ${LANDMARKS:+--landmarks "$LANDMARKS"} \
    "${SSLFER_MODEL[@]}" \
    ${ROW_FLAGS[@]+"${ROW_FLAGS[@]}"} \
    --part_mask 0.8 \
    --temperature 0.07 \
    --projection_dim 128 \
    --batch_size "${BATCH_SIZE:-$((256 / ((GPUS > 0 ? GPUS : 1) * ${NNODES:-1})))}" \
    --update_freq "${UPDATE_FREQ:-1}" \
    --opt adam \
    --lr 3e-4 \
    --min_lr 0 \
    --weight_decay 1e-4 \
    --warmup_epochs 10 \
    --epochs "$ROW_EPOCHS" \
    --save_ckpt_freq 50 \
    --log_dir "$run_dir" \
    --output_dir "$run_dir" \
    --num_workers "${NUM_WORKERS:-16}" \
    "${@:2}"
}

# sslfer_weights: sets `start` to the pre-trained weights, ROW to its default
sslfer_weights() {
  ROW=${ROW:-all}
  start=${PRETRAINED:-saved/model/pretraining/voxceleb1/sslfer_$ROW/checkpoint-last.pth}
  need_file "$start" "pre-train first (scripts/voxceleb1), or set PRETRAINED to a file"
}

# sslfer_probe DATASET DATA_DIR COMMAND FLAGS...: a linear probe and k-NN on frozen features
sslfer_probe() {
  local start
  sslfer_weights
  need_file "$2/train.csv" "make it: $3"
  local out=${OUTPUT_DIR:-saved/model/probes/$1}
  mkdir -p "$out"
  interruptible "$PYTHON" -m engine.probe "$start" --data_path "$2" \
    --output "$out/sslfer_$ROW.json" -- ${DATA_ROOT:+--data_root "$DATA_ROOT"} \
    --batch_size "${BATCH_SIZE:-256}" --num_workers "${NUM_WORKERS:-16}" "${@:4}"
}

# sslfer_finetune DATASET DATA_DIR COMMAND FLAGS...: the published evaluation code does not exist;
# these settings are ours
sslfer_finetune() {
  local start=
  if [[ ${PRETRAINED:-} == none ]]; then ROW=scratch; else sslfer_weights; fi
  need_file "$2/train.csv" "make it: $3"
  local run_dir=${OUTPUT_DIR:-saved/model/finetuning/$1/sslfer_$ROW}
  launch run_finetune.py \
    "${SSLFER_MODEL[@]}" \
    --data_set custom \
    --data_path "$2" \
    ${DATA_ROOT:+--data_root "$DATA_ROOT"} \
    ${start:+--finetune "$start"} \
    --batch_size "${BATCH_SIZE:-$((256 / ((GPUS > 0 ? GPUS : 1) * ${NNODES:-1})))}" \
    --update_freq "${UPDATE_FREQ:-1}" \
    --opt adamw \
    --lr 5e-4 \
    --weight_decay 0.05 \
    --warmup_epochs 2 \
    --epochs 30 \
    --mixup 0 \
    --cutmix 0 \
    --smoothing 0 \
    --aa none \
    --reprob 0 \
    --scale 0.7 1 \
    --test_num_segment 1 \
    --test_num_crop 1 \
    --save_ckpt_freq 1000 \
    --log_dir "$run_dir" \
    --output_dir "$run_dir" \
    --num_workers "${NUM_WORKERS:-16}" \
    "${@:4}"
}

# shellcheck shell=bash
# Sourced by common.sh: all that is particular to a model.
set -euo pipefail

# Rows of SSL-FER's table; the paper has no run with FaceSwap alone.
SSLFER_ROWS=(simclr timeaug timeaug_hardneg timeaug_hardneg_cutmix timeaug_faceswap timeaug_maskfn
  timeaug_faceswap_maskfn timeaug_hardneg_faceswap timeaug_hardneg_maskfn all)
MODELS=(svfap_base maedfer_base videomae_base "${SSLFER_ROWS[@]/#/sslfer_}")

# use_model NAME: sets
#   RECIPE            NAME
#   MODEL             name of the encoder; that of masked pre-training has "pretrain_" before it
#   MODEL_FLAGS       its shape, in both stages
#   PRETRAIN_FLAGS    what it learns from
#   FINETUNE_FLAGS    only in fine-tuning
#   PRETRAIN_BATCH FINETUNE_BATCH   clips per GPU
#   PRETRAIN_RUN      where pre-training goes
#   START_FROM        what fine-tuning starts from
#   TEST_VIEWS        clips of a video in evaluation, and crops of a clip
use_model() {
  one_of model "${1-}" "${MODELS[@]}"
  RECIPE=$1 FINETUNE_FLAGS=() TEST_VIEWS=2
  case $1 in
    svfap_base) # SVFAP Sec. 4.1 and 4.2, and its released scripts
      MODEL=svfap_base_patch16_160
      MODEL_FLAGS=(--stage_depths 12 6 3 --temporal_kernel_size 2 --num_bottleneck_tokens 8)
      PRETRAIN_FLAGS=(--mask_type tube)
      PRETRAIN_RUN=svfap_pretrain_base_patch16_160_frame_16x4_tube_mask_ratio_0.9_e100
      PRETRAIN_BATCH=64 FINETUNE_BATCH=16 START_FROM=checkpoint-99.pth
      ;;
    maedfer_base) # MAE-DFER Sec. 4 and its released scripts: 160 clips per step, then 3 x 32
      # (FERV39k 3 x 40); started from epoch 50 of the 100 that the schedule is made for.
      MODEL=maedfer_base_patch16_160
      MODEL_FLAGS=(--attn_type local_global --depth 16 --lg_region_size 2 5 10)
      FINETUNE_FLAGS=(--lg_classify_token_type region)
      PRETRAIN_FLAGS=(--mask_type part_window --part_win_size 2 5 10 --use_frame_diff_as_target)
      PRETRAIN_RUN=maedfer_pretrain_base_patch16_160_frame_16x4_part_window_mask_ratio_0.9_e100
      PRETRAIN_BATCH=40 FINETUNE_BATCH=24 START_FROM=checkpoint-49.pth
      ;;
    videomae_base) # compared with under the settings of MAE-DFER; there is no released script
      MODEL=videomae_base_patch16_160
      MODEL_FLAGS=(--attn_type joint)
      PRETRAIN_FLAGS=(--mask_type tube)
      PRETRAIN_RUN=videomae_pretrain_base_patch16_160_frame_16x4_tube_mask_ratio_0.9_e100
      PRETRAIN_BATCH=40 FINETUNE_BATCH=24 START_FROM=checkpoint-49.pth
      ;;
    sslfer_*) # SSL-FER: single frames, 256 per step; pairs are contrasted over all GPUs
      MODEL=timm/resnet50
      MODEL_FLAGS=(--input_size 112 --num_frames 1 --sampling_rate 1)
      sslfer_row "${1#sslfer_}"
      PRETRAIN_FLAGS=(${ROW_FLAGS[@]+"${ROW_FLAGS[@]}"} --epochs "$ROW_EPOCHS")
      PRETRAIN_RUN=saved/model/pretraining/voxceleb1/$1
      PRETRAIN_BATCH=$((256 / (${GPUS:-1} > 0 ? ${GPUS:-1} : 1))) FINETUNE_BATCH=$PRETRAIN_BATCH
      START_FROM=checkpoint-last.pth TEST_VIEWS=1
      ;;
  esac
  if [[ $PRETRAIN_RUN != */* ]]; then PRETRAIN_RUN=saved/model/pretraining/voxceleb2/$PRETRAIN_RUN; fi
  START_FROM=$PRETRAIN_RUN/$START_FROM
}

# sslfer_row ROW: sets ROW_FLAGS, what the row's runs learn from, and ROW_EPOCHS
sslfer_row() {
  ROW_FLAGS=() ROW_EPOCHS=300
  if [[ $1 == all || $1 == timeaug* ]]; then ROW_FLAGS+=(--time_aug falling); fi
  if [[ $1 == all || $1 == *hardneg* ]]; then ROW_FLAGS+=(--hard_negatives); fi
  if [[ $1 == *cutmix ]]; then ROW_FLAGS+=(--cutmix 1.0); fi
  if [[ $1 == all || $1 == *faceswap* ]]; then
    ROW_FLAGS+=(--face_swap 0.8)
    ROW_EPOCHS=500
  fi
  if [[ $1 == all || $1 == *maskfn ]]; then
    ROW_FLAGS+=(--false_negatives promote --false_negative_weight 0.8
      --descriptor "${DESCRIPTOR:-resnet18}"
      ${DESCRIPTOR_WEIGHTS:+--descriptor_weights "$DESCRIPTOR_WEIGHTS"})
  fi
}

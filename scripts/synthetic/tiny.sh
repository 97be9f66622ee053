# shellcheck shell=bash
# Sourced by scripts/quickstart.sh and compare.sh: drawn faces, and settings of tiny models on them,
# which were chosen with SVFAP (docs/learning.md). Few frames of small faces, but many of them: what the
# minutes are spent on is steps. Variables:
set -euo pipefail
NUM_PRETRAIN_VIDEOS=${NUM_PRETRAIN_VIDEOS:-1600} # drawn without labels
NUM_VIDEOS=${NUM_VIDEOS:-1260}         # drawn with labels: every person shows every expression once
NUM_IDENTITIES=${NUM_IDENTITIES:-180}  # people in these; those of the test part appear only there
LEVEL=${LEVEL:-easy}
DATA_FLAGS=${DATA_FLAGS:---level $LEVEL --scenes subject --min_frames 16 --max_frames 16 --size 68}
FACE_WINDOW=${FACE_WINDOW:-0 10 48 48} # of clips for pre-training
# Without their own light and contrast.
CLIP_FLAGS=${CLIP_FLAGS:---input_size 48 --num_frames 4 --sampling_rate 4 --standardise_clip}
SVFAP_FLAGS=${SVFAP_FLAGS---stage_depths 4 2} # its shape
MASK_RATIO=${MASK_RATIO:-0.6}          # less than the paper's 0.9: there are only 6 x 6 patches
NUM_SAMPLES=${NUM_SAMPLES:-1}          # clips of each video in an epoch
PRETRAIN_EPOCHS=${PRETRAIN_EPOCHS:-30}
PRETRAIN_LR=${PRETRAIN_LR:-2.4e-2}     # base rate: the peak is this x PRETRAIN_BATCH / 256
PRETRAIN_BATCH=${PRETRAIN_BATCH:-32}
FINETUNE_EPOCHS=${FINETUNE_EPOCHS:-4}
FINETUNE_LR=${FINETUNE_LR:-8e-3}
FINETUNE_BATCH=${FINETUNE_BATCH:-32}
# Augmentation is lighter and layers keep one rate, unlike in the recipes, because runs are a hundred
# times shorter.
# shellcheck disable=SC2034 # used by those that source this
TINY_PRETRAINING=${TINY_PRETRAINING:---opt muon --momentum 0.95 --lr $PRETRAIN_LR --opt_betas 0.9 0.95 --warmup_epochs $((PRETRAIN_EPOCHS / 10))}
# shellcheck disable=SC2034
TINY_FINETUNING=${TINY_FINETUNING:---head_norm batch --init_scale 1 --lr $FINETUNE_LR --warmup_steps 8 --layer_decay 1 --drop_path 0 --mixup 0 --cutmix 0 --aa none --reprob 0 --scale 0.85 1 --ratio 1 1}

# draw_faces DIR SEED: what is not there yet of DIR/synthetic
draw_faces() {
  # shellcheck disable=SC2086
  interruptible "$PYTHON" -m preprocess.synthetic --output_dir "$1/synthetic" \
    --num_pretrain_videos "$NUM_PRETRAIN_VIDEOS" --num_labelled_videos "$NUM_VIDEOS" \
    --num_identities "$NUM_IDENTITIES" --num_folds 5 --seed "$2" $DATA_FLAGS
}

# list_unlabelled DIR: DIR/voxceleb2/info_clean.csv
list_unlabelled() {
  interruptible "$PYTHON" -m preprocess.voxceleb2 --dataset_dir "$1/synthetic/voxceleb2" \
    --output_dir "$1/voxceleb2" --allow_other_counts
}

# list_labelled DIR: DIR/dfew/org/split01 ... split05
list_labelled() {
  interruptible "$PYTHON" -m preprocess.dfew --dataset_dir "$1/synthetic/dfew" \
    --output_dir "$1/dfew/org" --allow_other_counts --val_fraction 0.1
}

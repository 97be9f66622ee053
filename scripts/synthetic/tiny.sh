# shellcheck shell=bash
# Sourced by scripts/quickstart.sh, which sets most of it otherwise, and compare.sh: drawn faces, and
# settings of tiny models on them, which were chosen with SVFAP. Variables:
set -euo pipefail
NUM_PRETRAIN_VIDEOS=${NUM_PRETRAIN_VIDEOS:-300} # drawn without labels
NUM_VIDEOS=${NUM_VIDEOS:-1120}         # drawn with labels, four fifths of them for training
NUM_IDENTITIES=${NUM_IDENTITIES:-160}  # people in these; those of the test part appear only there
DATA_FLAGS=${DATA_FLAGS:---max_frames 32 --scenes subject --size 112}
FACE_WINDOW=${FACE_WINDOW:-0 16 80 80} # of clips for pre-training: half of VoxCeleb2's, as the size
# Small clips, so that minutes suffice; without their own light and contrast.
CLIP_FLAGS=${CLIP_FLAGS:---patch_size 16 --num_frames 8 --sampling_rate 4 --standardise_clip}
MASK_RATIO=${MASK_RATIO:-0.75}         # less than the paper's 0.9: there are only 4 x 4 patches
NUM_SAMPLES=${NUM_SAMPLES:-4}          # clips of each video in an epoch
PRETRAIN_LR=${PRETRAIN_LR:-1.2e-2}     # base rate: the peak is this x PRETRAIN_BATCH / 256
PRETRAIN_BATCH=${PRETRAIN_BATCH:-8}    # videos, with NUM_SAMPLES clips of each
FINETUNE_LR=${FINETUNE_LR:-8e-3}
FINETUNE_BATCH=${FINETUNE_BATCH:-32}
# Augmentation is lighter and layers keep one rate, unlike in the recipes, because runs are a hundred
# times shorter.
# shellcheck disable=SC2034 # used by those that source this
TINY_PRETRAINING=${TINY_PRETRAINING:---lr $PRETRAIN_LR --opt_betas 0.9 0.95 --warmup_epochs 2}
# shellcheck disable=SC2034
TINY_FINETUNING="--lr $FINETUNE_LR --layer_decay 1 --drop_path 0 --mixup 0 --cutmix 0 --aa none --reprob 0 --scale 0.8 1"

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

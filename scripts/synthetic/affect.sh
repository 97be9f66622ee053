#!/usr/bin/env bash
# Valence and arousal of drawn faces: a model of whole videos (regression), trained from scratch, and
# a model of every frame, which starts from the former; both tested on people that no training has
# seen, beside the prediction that never looks (the mean of the training labels).
#
#   bash scripts/synthetic/affect.sh
#
# The same command again goes on where it stopped. Set PYTHON, or make .venv with
# scripts/setup_env.sh first.
set -euo pipefail
NUM_VIDEOS=${NUM_VIDEOS:-1120}        # a fifth of them for the test
NUM_IDENTITIES=${NUM_IDENTITIES:-160} # people; those of the test part appear only there
SIZE_PX=${SIZE_PX:-112}
EPOCHS=${EPOCHS:-32}
FRAME_EPOCHS=${FRAME_EPOCHS:-6}
BATCH=${BATCH:-32}
LR=${LR:-1.2e-2} # base rate: the peak is this x BATCH / 256
SEED=${SEED:-0}
NUM_WORKERS=${NUM_WORKERS:-1}
DATA_DIR=${DATA_DIR:-saved/data/synthetic_affect}
OUTPUT_DIR=${OUTPUT_DIR:-saved/model/synthetic/affect}

source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
GPUS=${GPUS:-1}
started=$SECONDS

# train RUN_DIR LABELS FLAGS...: a tiny SVFAP on fold 1; LABELS are those of "videos" or "frames".
# A patch is a whole frame, and crops hardly differ: with small patches or usual crops so short a
# training from scratch stays at the mean.
train() {
  launch run_finetune.py --model svfap_tiny_patch8_64 --patch_size 64 \
    --data_path "$DATA_DIR/affect/$2/split01" --head_activation_func tanh \
    --batch_size "$BATCH" --lr "$LR" \
    --layer_decay 1 --drop_path 0 --aa none --reprob 0 --scale 0.95 1 --ratio 1 1 \
    --save_ckpt_freq 1000 --seed "$SEED" --num_workers "$NUM_WORKERS" \
    --log_dir "$1" --output_dir "$1" "${@:3}"
}

step "videos with valence and arousal of every frame"
interruptible "$PYTHON" -m preprocess.synthetic --output_dir "$DATA_DIR" --size "$SIZE_PX" \
  --num_pretrain_videos 2 --num_pretrain_identities 2 --num_labelled_videos "$NUM_VIDEOS" \
  --num_identities "$NUM_IDENTITIES" --num_folds 5 --max_frames 32 --scenes subject --seed "$SEED"
interruptible "$PYTHON" -m preprocess.synthetic_affect --dataset_dir "$DATA_DIR" --val_fraction 0.1

step "a value per video"
train "$OUTPUT_DIR/videos" videos --num_frames 8 --sampling_rate 4 --epochs "$EPOCHS" \
  --warmup_epochs 3 --init_scale 2.5
step "a value per frame"
train "$OUTPUT_DIR/frames" frames --num_frames 16 --sampling_rate 1 \
  --epochs "$FRAME_EPOCHS" --warmup_epochs 1 --finetune "$OUTPUT_DIR/videos/checkpoint-last.pth"

for run in "$OUTPUT_DIR"/videos "$OUTPUT_DIR"/frames; do
  step "$run (A) and the constant prediction (B) on unseen people"
  interruptible "$PYTHON" -m engine.constant "$run"
  interruptible "$PYTHON" -m engine.compare "$run" "$run/constant" \
    --subjects "$DATA_DIR/affect/subjects.csv"
  interruptible "$PYTHON" -m engine.summarize "$run" --subjects "$DATA_DIR/affect/subjects.csv"
done
printf '\nthis took %d min %d s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60))

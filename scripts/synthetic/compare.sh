#!/usr/bin/env bash
# SVFAP, MAE-DFER and VideoMAE side by side on drawn faces: pre-trained at equal cost (multiply-adds)
# and, for SVFAP, not at all; fine-tuned on a tenth and on all of the labels; three seeds of
# everything; tested on people that no training has seen.
#
#   bash scripts/synthetic/compare.sh
#
# writes side_by_side.md, .csv, .tex, .png and equal_cost.md into OUTPUT_DIR; docs/benchmarks.md says
# how long that takes. The same command again goes on where it stopped; finished runs are left alone,
# and other settings need another OUTPUT_DIR. Set PYTHON, or make .venv with scripts/setup_env.sh first.
set -euo pipefail
# Faces are harder to read than those of the quick start. Variables, and those of tiny.sh:
source "$(dirname "${BASH_SOURCE[0]}")/tiny.sh"
PRETRAIN_EPOCHS=${PRETRAIN_EPOCHS:-30} # of SVFAP; the others get as many as cost the same
PRETRAIN_FLAGS=${PRETRAIN_FLAGS:---batch_size $PRETRAIN_BATCH $TINY_PRETRAINING}
FINETUNE_EPOCHS=${FINETUNE_EPOCHS:-26}
FINETUNE_FLAGS=${FINETUNE_FLAGS:---batch_size $FINETUNE_BATCH $TINY_FINETUNING}
FEW_PERCENT=${FEW_PERCENT:-10}         # of the labels: whole people
FEW_EPOCHS=${FEW_EPOCHS:-150}          # on these; an epoch is that much shorter
NUM_SEEDS=${NUM_SEEDS:-3}
NUM_PRETRAINED=${NUM_PRETRAINED:-$NUM_SEEDS} # pre-trainings per model; seeds take turns with fewer
DATA_SEED=${DATA_SEED:-0}              # of the drawn videos
JOBS=${JOBS:-2}                        # runs at a time
NUM_WORKERS=${NUM_WORKERS:-0}          # loader processes of each; with 0 a run takes one core
DATA_DIR=${DATA_DIR:-saved/data/synthetic/compare}
OUTPUT_DIR=${OUTPUT_DIR:-saved/model/synthetic/compare}
KEEP_CHECKPOINTS=${KEEP_CHECKPOINTS:-0} # 1: also those of fine-tuned models

source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
source scripts/synthetic/jobs.sh
GPUS=${GPUS:-1}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
started=$SECONDS
MODELS=(svfap maedfer videomae)
SCRATCH=svfap_from_scratch
FEW=${FEW_PERCENT}_percent_of_labels ALL=100_percent_of_labels
people=$DATA_DIR/synthetic/dfew/annotation/subjects.csv

# train RUN_DIR run_*.py FLAGS...
train() {
  logged "$1" launch "${@:2}" --save_ckpt_freq 1000 --num_workers "$NUM_WORKERS" --no_report \
    --log_dir "$1" --output_dir "$1"
}

# Flags that decide what a clip costs. MAE-DFER's masks follow from its regions, these from the clip.
pretrain_flags() {
  local flags="--model pretrain_$1_tiny_patch8_64 $CLIP_FLAGS --mask_ratio $MASK_RATIO"
  case $1 in
    maedfer) flags+=" --use_frame_diff_as_target" ;;
  esac
  echo "$flags"
}

# pretrain MODEL NUMBER EPOCHS
pretrain() {
  local run=$OUTPUT_DIR/pretrain/$1/seed$2
  if [[ -f $run/checkpoint-$(($3 - 1)).pth ]]; then return; fi
  # shellcheck disable=SC2046,SC2086
  train "$run" run_pretrain.py $(pretrain_flags "$1") $PRETRAIN_FLAGS \
    --data_path "$DATA_DIR/voxceleb2/info_clean.csv" --face_window $FACE_WINDOW \
    --num_samples "$NUM_SAMPLES" --epochs "$3" --visualize 0 --seed "$2"
}

# finetune SYSTEM MODEL CONDITION SEED EPOCHS_OF_PRETRAINING
finetune() {
  local run=$OUTPUT_DIR/runs/$1/$3/seed$4 share=1 epochs=$FINETUNE_EPOCHS start=()
  if [[ -f $run/metrics.json ]]; then return; fi
  if [[ $3 == "$FEW" ]]; then
    share=$(awk "BEGIN { print $FEW_PERCENT / 100 }")
    epochs=$FEW_EPOCHS
  fi
  if [[ $1 != "$SCRATCH" ]]; then
    start=(--finetune "$OUTPUT_DIR/pretrain/$2/seed$(($4 % NUM_PRETRAINED))/checkpoint-$(($5 - 1)).pth")
  fi
  # shellcheck disable=SC2086
  train "$run" run_finetune.py --model "$2_tiny_patch8_64" $CLIP_FLAGS $FINETUNE_FLAGS \
    --data_set synthetic --nb_classes 7 --data_path "$DATA_DIR/dfew/org/split01" \
    --subjects "$people" --label_fraction "$share" --epochs "$epochs" \
    --warmup_epochs $((epochs / 10)) --test_num_segment 2 --test_num_crop 2 \
    --disable_eval_during_finetuning --seed "$4" ${start[@]+"${start[@]}"} || return
  if ((!KEEP_CHECKPOINTS)); then rm -f "$run"/checkpoint-*.pth; fi
}

settings() {
  local name
  for name in NUM_PRETRAIN_VIDEOS NUM_VIDEOS NUM_IDENTITIES DATA_FLAGS FACE_WINDOW CLIP_FLAGS \
    PRETRAIN_EPOCHS NUM_SAMPLES PRETRAIN_FLAGS MASK_RATIO FINETUNE_EPOCHS FINETUNE_FLAGS FEW_PERCENT FEW_EPOCHS \
    NUM_PRETRAINED DATA_SEED; do
    echo "$name=${!name}"
  done
}
mkdir -p "$OUTPUT_DIR"
if [[ ! -f $OUTPUT_DIR/settings.txt ]]; then settings >"$OUTPUT_DIR/settings.txt"; fi
if ! settings | diff -b "$OUTPUT_DIR/settings.txt" - >&2; then
  fail "$OUTPUT_DIR holds a comparison with other settings (< there, > now); set another OUTPUT_DIR"
fi

step "draw videos of faces and list them, where they are not there yet"
draw_faces "$DATA_DIR" "$DATA_SEED"
if [[ ! -f $DATA_DIR/voxceleb2/info_clean.csv ]]; then list_unlabelled "$DATA_DIR"; fi
if [[ ! -f $DATA_DIR/dfew/org/split01/train.csv ]]; then list_labelled "$DATA_DIR"; fi

step "epochs of equal cost"
runs=()
for model in "${MODELS[@]}"; do runs+=("$(pretrain_flags "$model")"); done
counts=$("$PYTHON" -m engine.equal_cost --epochs "$PRETRAIN_EPOCHS" --format epochs \
  --clips_per_epoch $((NUM_SAMPLES * NUM_PRETRAIN_VIDEOS)) --output "$OUTPUT_DIR/equal_cost.md" "${runs[@]}")
cat "$OUTPUT_DIR/equal_cost.md"

first=() few=() all=()
number=0
for epochs in $counts; do
  model=${MODELS[number]}
  number=$((number + 1))
  for ((seed = 0; seed < NUM_PRETRAINED; seed++)); do first+=("pretrain $model $seed $epochs"); done
  for ((seed = 0; seed < NUM_SEEDS; seed++)); do
    all+=("finetune $model $model $ALL $seed $epochs")
    few+=("finetune $model $model $FEW $seed $epochs")
  done
done
for ((seed = 0; seed < NUM_SEEDS; seed++)); do # these need no pre-training and fill the lanes
  first+=("finetune $SCRATCH svfap $ALL $seed 0" "finetune $SCRATCH svfap $FEW $seed 0")
done
step "pre-train each model, and fine-tune from scratch"
run_jobs "${first[@]}"
step "fine-tune what was pre-trained"
run_jobs "${all[@]}" "${few[@]}"

step "table and picture, in $OUTPUT_DIR"
"$PYTHON" -m engine.side_by_side "$OUTPUT_DIR/runs" --systems "${MODELS[@]}" "$SCRATCH" \
  --conditions "$FEW" "$ALL" --subjects "$people" --output_dir "$OUTPUT_DIR" \
  --note "Pre-training of equal cost: $OUTPUT_DIR/equal_cost.md. Rates and epochs were chosen with SVFAP." \
  "Seeds differ in pre-training, initial weights, order, and which people are the labelled ones."
printf 'this took %d min %d s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60))

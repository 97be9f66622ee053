#!/usr/bin/env bash
# SVFAP, MAE-DFER and VideoMAE side by side on drawn faces: pre-trained at equal cost (multiply-adds)
# and, for SVFAP, not at all; a linear and an attentive probe of the frozen encoders, and fine-tuning,
# on a tenth and on all of the labels; three seeds of everything; tested on people that no training has
# seen.
#
#   bash scripts/synthetic/compare.sh
#   SHORT=1 bash scripts/synthetic/compare.sh     everything at its smallest, in minutes: a check
#
# writes side_by_side.md, .csv, .tex, .png and equal_cost.md into OUTPUT_DIR; docs/benchmarks.md says
# how long that takes. The same command again goes on where it stopped; finished runs are left alone,
# and other settings need another OUTPUT_DIR. Set PYTHON, or make .venv with scripts/setup_env.sh first.
set -euo pipefail
if ((${SHORT:-0})); then
  NUM_PRETRAIN_VIDEOS=${NUM_PRETRAIN_VIDEOS:-8} NUM_VIDEOS=${NUM_VIDEOS:-42}
  NUM_IDENTITIES=${NUM_IDENTITIES:-10} PRETRAIN_EPOCHS=${PRETRAIN_EPOCHS:-10}
  PRETRAIN_BATCH=${PRETRAIN_BATCH:-4} FINETUNE_BATCH=${FINETUNE_BATCH:-8}
  FINETUNE_EPOCHS=${FINETUNE_EPOCHS:-2} FEW_EPOCHS=${FEW_EPOCHS:-2} FEW_SCRATCH_EPOCHS=${FEW_SCRATCH_EPOCHS:-2} FEW_PERCENT=${FEW_PERCENT:-30}
  NUM_SEEDS=${NUM_SEEDS:-2} NUM_PRETRAINED=${NUM_PRETRAINED:-1} GPUS=${GPUS:-0}
  DATA_DIR=${DATA_DIR:-saved/data/compare_short}
  OUTPUT_DIR=${OUTPUT_DIR:-saved/model/synthetic/compare_short}
fi
# Data, pre-training and fine-tuning on all labels are those of the quick start. Variables, and those
# of tiny.sh:
source "$(dirname "${BASH_SOURCE[0]}")/tiny.sh"
PRETRAIN_FLAGS=${PRETRAIN_FLAGS:---batch_size $PRETRAIN_BATCH $TINY_PRETRAINING}
MAEDFER_FLAGS=${MAEDFER_FLAGS---depth 4 --lg_region_size 2 3 3} # its shape; SVFAP's is in tiny.sh
VIDEOMAE_FLAGS=${VIDEOMAE_FLAGS---depth 6}
FINETUNE_FLAGS=${FINETUNE_FLAGS:---batch_size $FINETUNE_BATCH $TINY_FINETUNING}
FEW_PERCENT=${FEW_PERCENT:-10}         # of the labels: whole people
# On these: an epoch is that much shorter. Pre-trained and new models learn best in different ways, each
# chosen on people of the training part (docs/learning.md).
FEW_EPOCHS=${FEW_EPOCHS:-60}
FEW_FLAGS=${FEW_FLAGS---mixup 0.8 --cutmix 1 --lr 1.6e-2 --warmup_steps 18}
FEW_SCRATCH_EPOCHS=${FEW_SCRATCH_EPOCHS:-120}
FEW_SCRATCH_FLAGS=${FEW_SCRATCH_FLAGS---mixup 0.8 --cutmix 1 --warmup_steps 36}
NUM_SEEDS=${NUM_SEEDS:-3}
NUM_PRETRAINED=${NUM_PRETRAINED:-$NUM_SEEDS} # pre-trainings per model; seeds take turns with fewer
DATA_SEED=${DATA_SEED:-0}              # of the drawn videos
JOBS=${JOBS:-2}                        # runs at a time
NUM_WORKERS=${NUM_WORKERS:-0}          # loader processes of each; with 0 a run takes one core
read -ra systems <<<"${SYSTEMS:-svfap maedfer videomae}"
DATA_DIR=${DATA_DIR:-saved/data/quickstart}
OUTPUT_DIR=${OUTPUT_DIR:-saved/model/synthetic/compare}
KEEP_CHECKPOINTS=${KEEP_CHECKPOINTS:-0} # 1: also those of fine-tuned models

source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
source scripts/synthetic/jobs.sh
GPUS=${GPUS:-1}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
started=$SECONDS
SCRATCH=svfap_from_scratch
FEW=${FEW_PERCENT}_percent_of_labels ALL=100_percent_of_labels
few_share=$(awk "BEGIN { print $FEW_PERCENT / 100 }")
PROBES=(linear attentive)
people=$DATA_DIR/synthetic/dfew/annotation/subjects.csv

# train RUN_DIR run_*.py FLAGS...
train() {
  logged "$1" launch "${@:2}" --save_ckpt_freq 1000 --num_workers "$NUM_WORKERS" --no_report \
    --log_dir "$1" --output_dir "$1"
}

# Shape of a model in both stages.
shape_of() {
  case $1 in
    svfap) echo "$CLIP_FLAGS $SVFAP_FLAGS" ;;
    maedfer) echo "$CLIP_FLAGS $MAEDFER_FLAGS" ;;
    videomae) echo "$CLIP_FLAGS $VIDEOMAE_FLAGS" ;;
  esac
}

# Flags that decide what a clip costs. MAE-DFER's masks follow from its regions, these from its shape.
pretrain_flags() {
  local flags="--model pretrain_$1_tiny_patch8_64 $(shape_of "$1") --mask_ratio $MASK_RATIO"
  if [[ $1 == maedfer ]]; then flags+=" --use_frame_diff_as_target"; fi
  echo "$flags"
}

# pretrain SYSTEM MODEL NUMBER EPOCHS: of the system from scratch one step at rate 0, for the probes
pretrain() {
  local run=$OUTPUT_DIR/pretrain/$1/seed$3 nothing=()
  if [[ -f $run/checkpoint-$(($4 - 1)).pth ]]; then return; fi
  if [[ $1 == "$SCRATCH" ]]; then nothing=(--lr 0 --weight_decay 0 --max_steps 1 --warmup_epochs 0); fi
  # shellcheck disable=SC2046,SC2086
  train "$run" run_pretrain.py $(pretrain_flags "$2") $PRETRAIN_FLAGS \
    --data_path "$DATA_DIR/voxceleb2/info_clean.csv" --face_window $FACE_WINDOW \
    --num_samples "$NUM_SAMPLES" --epochs "$4" --visualize 0 --seed "$3" ${nothing[@]+"${nothing[@]}"}
}

# encoder SYSTEM SEED EPOCHS: its checkpoint
encoder() { echo "$OUTPUT_DIR/pretrain/$1/seed$(($2 % NUM_PRETRAINED))/checkpoint-$(($3 - 1)).pth"; }

# finetune SYSTEM MODEL CONDITION SEED EPOCHS_OF_PRETRAINING
finetune() {
  local run=$OUTPUT_DIR/runs/$1/$3/seed$4 share=1 epochs=$FINETUNE_EPOCHS start=() more=
  if [[ -f $run/metrics.json ]]; then return; fi
  if [[ $3 == "$FEW" ]]; then share=$few_share epochs=$FEW_EPOCHS more=$FEW_FLAGS; fi
  if [[ $1 != "$SCRATCH" ]]; then
    start=(--finetune "$(encoder "$1" "$4" "$5")")
  elif [[ $3 == "$FEW" ]]; then
    epochs=$FEW_SCRATCH_EPOCHS more=$FEW_SCRATCH_FLAGS
  fi
  # shellcheck disable=SC2046,SC2086
  train "$run" run_finetune.py --model "$2_tiny_patch8_64" $(shape_of "$2") $FINETUNE_FLAGS \
    --data_set synthetic --nb_classes 7 --data_path "$DATA_DIR/dfew/org/split01" \
    --subjects "$people" --label_fraction "$share" --epochs "$epochs" $more \
    --test_num_segment 2 --test_num_crop 2 \
    --disable_eval_during_finetuning --seed "$4" ${start[@]+"${start[@]}"} || return
  if ((!KEEP_CHECKPOINTS)); then rm -f "$run"/checkpoint-*.pth; fi
}

# probe SYSTEM CONDITION SEED EPOCHS_OF_PRETRAINING: of the frozen encoder, with the same labels
probe() {
  local method share=1 own=$OUTPUT_DIR/probes/$1/$2/seed$3
  if [[ -f $OUTPUT_DIR/runs/$1/${PROBES[1]}_probe_$2/seed$3/metrics.json ]]; then return; fi
  if [[ $2 == "$FEW" ]]; then share=$few_share; fi
  # shellcheck disable=SC2086
  logged "$own" interruptible "$PYTHON" -m engine.probe "$(encoder "$1" "$3" "$4")" --attentive \
    --data_path "$DATA_DIR/dfew/org/split01" --data_set synthetic --output_dir "$own" -- \
    --subjects "$people" --label_fraction "$share" --seed "$3" $CLIP_FLAGS \
    --test_num_segment 2 --test_num_crop 2 --num_workers "$NUM_WORKERS" || return
  for method in "${PROBES[@]}"; do
    mkdir -p "$OUTPUT_DIR/runs/$1/${method}_probe_$2/seed$3"
    cp "$own/$method"/{pred.csv,metrics.json} "$OUTPUT_DIR/runs/$1/${method}_probe_$2/seed$3"
  done
}

settings=()
for name in NUM_PRETRAIN_VIDEOS NUM_VIDEOS NUM_IDENTITIES DATA_FLAGS FACE_WINDOW CLIP_FLAGS \
  SVFAP_FLAGS MAEDFER_FLAGS VIDEOMAE_FLAGS PRETRAIN_EPOCHS NUM_SAMPLES PRETRAIN_FLAGS MASK_RATIO \
  FINETUNE_EPOCHS FINETUNE_FLAGS FEW_PERCENT FEW_EPOCHS FEW_FLAGS FEW_SCRATCH_EPOCHS FEW_SCRATCH_FLAGS \
  NUM_PRETRAINED DATA_SEED; do
  settings+=("$name=${!name}")
done
keep_settings "$OUTPUT_DIR" OUTPUT_DIR "${settings[@]}"

step "draw videos of faces and list them, where they are not there yet"
draw_faces "$DATA_DIR" "$DATA_SEED"
if [[ ! -f $DATA_DIR/voxceleb2/info_clean.csv ]]; then list_unlabelled "$DATA_DIR"; fi
if [[ ! -f $DATA_DIR/dfew/org/split01/train.csv ]]; then list_labelled "$DATA_DIR"; fi

step "epochs of equal cost"
runs=()
for model in "${systems[@]}"; do runs+=("$(pretrain_flags "$model")"); done
counts=$("$PYTHON" -m engine.equal_cost --epochs "$PRETRAIN_EPOCHS" --format epochs \
  --clips_per_epoch $((NUM_SAMPLES * NUM_PRETRAIN_VIDEOS)) --output "$OUTPUT_DIR/equal_cost.md" "${runs[@]}")
cat "$OUTPUT_DIR/equal_cost.md"

first=() then=()
# add_system SYSTEM MODEL EPOCHS
add_system() {
  local seed condition
  for ((seed = 0; seed < NUM_PRETRAINED; seed++)); do first+=("pretrain $1 $2 $seed $3"); done
  for ((seed = 0; seed < NUM_SEEDS; seed++)); do
    for condition in "$ALL" "$FEW"; do
      then+=("finetune $1 $2 $condition $seed $3" "probe $1 $condition $seed $3")
    done
  done
}
number=0
for epochs in $counts; do
  add_system "${systems[number]}" "${systems[number]}" "$epochs"
  number=$((number + 1))
done
add_system "$SCRATCH" svfap 1
step "pre-train each model"
run_jobs "${first[@]}"
step "probe and fine-tune"
run_jobs "${then[@]}"

step "table and picture, in $OUTPUT_DIR"
conditions=()
for labels in "$FEW" "$ALL"; do
  conditions+=("${PROBES[@]/%/_probe_$labels}" "$labels")
done
"$PYTHON" -m engine.side_by_side "$OUTPUT_DIR/runs" --systems "${systems[@]}" "$SCRATCH" \
  --conditions "${conditions[@]}" --subjects "$people" --output_dir "$OUTPUT_DIR" \
  --note "Pre-training of equal cost: $OUTPUT_DIR/equal_cost.md. Rates and epochs were chosen with SVFAP." \
  "Probes are of frozen encoders, the others fine-tuned. Seeds differ in pre-training, initial weights, order, and which people are the labelled ones."
printf 'this took %d min %d s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60))

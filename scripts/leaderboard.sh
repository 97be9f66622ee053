#!/usr/bin/env bash
# Encoders side by side on one data set: frozen (linear, attentive and k-NN probe) and fine-tuned, on the
# same folds and views, with intervals, multiply-adds and speed; one table and one picture.
#
#   bash scripts/leaderboard.sh DATASET [NAME...] [-- flags]
#
# DATASET is one of scripts/datasets.sh, or a folder with train.csv and test.csv or with folds of these.
# NAME is a name of `python -m models.download --list`, hf://owner/repo, or LABEL=FILE; without any all
# public encoders and the pre-trained ones of SVFAP and MAE-DFER. Flags after -- go to run_finetune.py,
# for probes and fine-tuning alike, and win. The same command again goes on where it stopped; an encoder
# that fails is named in the table, the others go on. Variables, beside those of scripts/common.sh:
set -euo pipefail
PROTOCOLS=${PROTOCOLS:-cost probe finetune} # what to do
FINETUNE_FLAGS=${FINETUNE_FLAGS:---epochs 100 --lr 1e-3 --opt_betas 0.9 0.999 --weight_decay 0.05}
VIEWS=${VIEWS:-2}              # clips of a video, and crops of a clip, in the test
BATCH_SIZE=${BATCH_SIZE:-16}   # clips per process
UPDATE_FREQ=${UPDATE_FREQ:-1}  # batches per step of fine-tuning
NUM_WORKERS=${NUM_WORKERS:-8}
OUTPUT_DIR=${OUTPUT_DIR:-}     # default: saved/model/leaderboard/DATASET

here=$PWD
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if (($# < 1)) || [[ $1 == -* ]]; then usage; fi
dataset=$1 names=() RECIPE=leaderboard GPUS=${GPUS:-1}
shift
while (($#)) && [[ $1 != -- ]]; do
  names+=("$1")
  shift
done
shift $(($# > 0))
if [[ $dataset == */* || (-d $here/$dataset && " ${DATASETS[*]} " != *" $dataset "*) ]]; then
  case $dataset in /*) DATA_DIR=$dataset ;; *) DATA_DIR=$here/$dataset ;; esac
  DATA_FLAGS=() FOLDS=${FOLDS:-} SAMPLING_RATE=${SAMPLING_RATE:-4} DATA_COMMAND='see docs/custom_data.md'
else
  use_data "$dataset"
fi
out=${OUTPUT_DIR:-saved/model/leaderboard/$(basename "$dataset")}
if ((!${#names[@]})); then
  read -ra names < <("$PYTHON" -c 'from svfap.models.weights import public, released
print(*(n for n, one in public.PUBLIC.items() if one.compared),
      *(n for n in released.RELEASED if n.endswith("voxceleb2")))')
fi
folds=()
if [[ -f $DATA_DIR/train.csv ]]; then
  folds=("")
elif [[ -n $FOLDS ]]; then
  for number in $FOLDS; do folds+=("$(fold_name "$number")"); done
else
  for path in "$DATA_DIR"/*/train.csv; do folds+=("$(basename "$(dirname "$path")")"); done
fi
need_file "$DATA_DIR/${folds[0]:+${folds[0]}/}train.csv" "make it: $DATA_COMMAND"
flags=(--sampling_rate "$SAMPLING_RATE" ${DATA_FLAGS[@]+"${DATA_FLAGS[@]}"}
  ${DATA_ROOT:+--data_root "$DATA_ROOT"} --test_num_segment "$VIEWS" --test_num_crop "$VIEWS"
  --batch_size "$BATCH_SIZE" --num_workers "$NUM_WORKERS")
device=()
if ((GPUS == 0)); then device=(--device cpu); fi

# try WHAT COMMAND...: its output goes to $board/output.log; notes a failure, ends if it was stopped
try() {
  local status=0
  echo "$(date +%H:%M:%S) $label: $1"
  "${@:2}" >>"$board/output.log" 2>&1 || status=$?
  if ((status == EXIT_INTERRUPTED || status > 128)); then exit "$EXIT_INTERRUPTED"; fi
  if ((status)); then
    echo "$1: $(grep -a 'rror' "$board/output.log" | tail -n 1 | cut -c 1-300)" >>"$board/failed.txt"
    echo "error: $label: $1 failed; see $board/output.log" >&2
    failed=1
  fi
  return "$status"
}

# measure FLAGS...: all protocols of one encoder; the first that fails is its last
measure() {
  local fold run
  rm -f "$board/failed.txt"
  if [[ $PROTOCOLS == *cost* && ! -f $board/cost.json ]]; then
    try cost interruptible "$PYTHON" -m engine.leaderboard "$out" --measure "$label" "$source" \
      ${device[@]+"${device[@]}"} || return 0
  fi
  for fold in "${folds[@]}"; do
    run=$board/probes/${fold:-all}
    if [[ $PROTOCOLS != *probe* || -f $run/probe.json ]]; then continue; fi
    try "probe${fold:+ of $fold}" interruptible "$PYTHON" -m engine.probe "$source" --attentive \
      --data_path "$DATA_DIR${fold:+/$fold}" --output_dir "$run" --output "$run/probe.json" \
      -- "${flags[@]}" ${device[@]+"${device[@]}"} "$@" || return 0
  done
  for fold in "${folds[@]}"; do
    run=$board/finetuned/${fold:-all}
    if [[ $PROTOCOLS != *finetune* ]]; then continue; fi
    # shellcheck disable=SC2086
    try "fine-tuning${fold:+ of $fold}" launch run_finetune.py --finetune "$source" $FINETUNE_FLAGS \
      --data_path "$DATA_DIR${fold:+/$fold}" --update_freq "$UPDATE_FREQ" --save_ckpt_freq 1000 \
      --no_report --log_dir "$run" --output_dir "$run" "${flags[@]}" "$@" || return 0
  done
}

failed=0
keep_settings "$out" OUTPUT_DIR "DATA_DIR=$(true_path "$DATA_DIR")" "SAMPLING_RATE=$SAMPLING_RATE" \
  "VIEWS=$VIEWS"
for name in "${names[@]}"; do
  label=${name%%=*} source=${name#*=}
  label=${label#hf://}
  label=${label//[^A-Za-z0-9._-]/_}
  if [[ $source == "$name" && -f $source && $name != hf://* ]]; then label=$(basename "${source%.*}"); fi
  case $source in /* | hf://*) ;; *) if [[ -e $here/$source ]]; then source=$here/$source; fi ;; esac
  board=$out/$label
  mkdir -p "$board"
  if [[ ! -f $board/source.txt ]]; then echo "$source" >"$board/source.txt"; fi
  if [[ $(<"$board/source.txt") != "$source" ]]; then
    fail "$board holds results of $(<"$board/source.txt"), not of $source; call it LABEL=$source"
  fi
  measure "$@"
done
step "table and picture, in $out"
"$PYTHON" -m engine.leaderboard "$out"
exit "$failed"

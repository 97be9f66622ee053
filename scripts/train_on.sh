#!/usr/bin/env bash
# From a folder per class of videos or pictures to a trained model, its report, and how to ask it.
#
#   bash scripts/train_on.sh my_clips
#   bash scripts/train_on.sh my_clips --weights FILE [more flags of run_finetune.py]
#
# Cuts out faces, keeps people apart in training and test, examines the data, trains, and writes the
# report. --weights: what training begins with, a file, hf://owner/name or a name of the catalogue
# (python -m models.download --list); without, a tiny model begins from nothing. The same command
# again goes on where it stopped. Variables:
#   OUTPUT_DIR   where everything goes (default: saved/train_on/NAME)
#   FACES=0      the clips are face crops already
#   PREPARE      flags of preprocess.custom, such as "--layout ravdess" or "--subject_pattern REGEX"
#   MODEL GPUS   another model from nothing; processes (0: the CPU)
set -euo pipefail

here=$PWD
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if (($# < 1)) || [[ $1 == -* ]]; then usage; fi
clips=$(cd "$here" && cd "$1" 2>/dev/null && pwd) || fail "no folder $1; give the one that holds a folder per class"
shift
GPUS=${GPUS:-1} FACES=${FACES:-1}
if ((FACES)); then extras=(faces); else extras=(); fi
bash scripts/setup_env.sh ${extras[@]+"${extras[@]}"}
if [[ ${VENV:-.venv} != none ]]; then PYTHON=${VENV:-.venv}/bin/python; fi
out=${OUTPUT_DIR:-saved/train_on/$(folder_name "$clips")}

start=(--model "${MODEL:-svfap_tiny_patch8_64}") flags=()
while (($#)); do
  if [[ $1 == --weights ]]; then
    if (($# < 2)); then fail "--weights needs a file or a name"; fi
    if [[ -e $here/$2 ]]; then start=(--finetune "$here/$2"); else start=(--finetune "$2"); fi
    shift
  else
    flags+=("$1")
  fi
  shift
done

check_flags finetuning "${start[@]}" ${flags[@]+"${flags[@]}"}

# despite_bad_clips FILE COMMAND...: status 1 stands for clips that the command has named, if FILE is
# there all the same
despite_bad_clips() {
  local status=0
  interruptible "${@:2}" || status=$?
  if ((status > 1)) || [[ ! -e $1 ]]; then exit "$((status ? status : 1))"; fi
}

source_dir=$clips
if ((FACES)); then
  step "cut out the faces"
  despite_bad_clips "$out/faces/faces.csv" \
    "$PYTHON" -m preprocess.faces "$clips" --output_dir "$out/faces"
  source_dir=$out/faces
fi
step "make training, validation and test part"
# shellcheck disable=SC2086
interruptible "$PYTHON" -m preprocess.custom "$source_dir" --output_dir "$out/data" \
  --subject_pattern auto --leave_out_missing ${PREPARE:-}
step "examine them"
despite_bad_clips "$out/data/train.csv" \
  "$PYTHON" -m preprocess.doctor "$out/data" --output_dir "$out/doctor"
step "train"
launch run_finetune.py --data_set custom --data_path "$out/data" "${start[@]}" \
  --save_ckpt_freq 1000 --output_dir "$out/run" --log_dir "$out/run" ${flags[@]+"${flags[@]}"}
step "done"
echo "open in a browser: $out/run/report.html    look at the data: $out/doctor/contact_sheet.png"
echo "ask about a new video:"
echo "  $PYTHON run_predict.py VIDEO --checkpoint $out/run/checkpoint-last.pth" \
  "--output_dir $out/answers$(if ((!FACES)); then echo ' --no_crop'; fi)"

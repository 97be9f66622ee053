# shellcheck shell=bash
# Sourced by scripts/ravdess/all.sh and scripts/cremad/all.sh: from nothing to a table beside the
# published numbers. Arguments: DATASET FOLDER_OF_VIDEOS and those of the script.
#
#   --weights released|none|FILE   what fine-tuning starts from: the authors' weights (the default),
#                                  nothing, or a file; further flags go to run_finetune.py
#
# The same command goes on where it stopped. Variables, beside those of scripts/finetune.sh:
#   MODEL        of scripts/finetune.sh: svfap_base (default), maedfer_base, videomae_base
#   PLACE        gets videos, crops, lists and the packed store; default saved/data/DATASET
#   ADDRESS      other addresses for preprocess.fetch, separated by spaces
#   LIST_FLAGS   for the command that lists, such as --allow_other_counts
#   WORKERS      processes that crop and pack; default: all cores
set -euo pipefail

# real_data DATASET FOLDER_OF_VIDEOS ARGUMENTS...
real_data() {
  local dataset=$1 videos=$2 weights=released flags=()
  shift 2
  while (($#)); do
    case $1 in
      -h | --help) sed -n '2,/^set -euo/p' scripts/real_data.sh | sed '$d; s/^# \{0,1\}//' && return ;;
      --weights)
        if (($# < 2)); then fail "--weights needs released, none or a file"; fi
        weights=$2
        shift 2
        ;;
      *) flags+=("$1") && shift ;;
    esac
  done
  local model=${MODEL:-svfap_base} place=${PLACE:-saved/data/$dataset} workers=() released
  if [[ -n ${WORKERS:-} ]]; then workers=(--num_workers "$WORKERS"); fi
  case $weights:$model in
    none:* ) ;;
    released:svfap_base) released=svfap-base-voxceleb2 ;;
    released:maedfer_base) released=maedfer-base-voxceleb2 ;;
    released:*) fail "no weights of $model were released; give --weights none or a file" ;;
    *) need_file "$weights" "give --weights released, none, or a file" ;;
  esac
  local runs=${OUTPUT_DIR:-saved/model/finetuning/$dataset/$model-from-$(basename "${weights%.*}")}

  if [[ -n ${released:-} ]]; then
    step "the authors' weights"
    weights=$("$PYTHON" -m models.download "$released" | sed -n "s/^$released is in //p")
    if [[ ! -f $weights ]]; then fail "see above; give --weights none, or a file"; fi
  fi
  step "fetch the videos"
  # shellcheck disable=SC2086
  interruptible "$PYTHON" -m preprocess.fetch "$dataset" "$place/official" ${ADDRESS:+--address $ADDRESS}
  step "crop faces, aligned as in the papers"
  interruptible "$PYTHON" -m preprocess.faces "$place/official/$videos" --output_dir "$place/crops" \
    --margin openface --align similarity ${workers[@]+"${workers[@]}"}
  step "list the authors' folds, and pack"
  # shellcheck disable=SC2086
  interruptible "$PYTHON" -m "preprocess.$dataset" --dataset_dir "$place/crops" \
    --output_dir "$place/lists" ${LIST_FLAGS:-}
  interruptible "$PYTHON" -m preprocess.pack "$place/lists" --output_dir "$place/packed" \
    ${workers[@]+"${workers[@]}"}
  step "fine-tune and test every fold"
  DATA_DIR=$place/packed PRETRAINED=$weights OUTPUT_DIR=$runs \
    bash scripts/finetune.sh "$model" "$dataset" ${flags[@]+"${flags[@]}"}
  step "beside the published numbers"
  "$PYTHON" -m engine.summarize "$runs" --subjects "$place/packed/split01/subjects.csv" \
    --published "$dataset" --output "$runs/results.md"
  cat "$runs/results.md"
}

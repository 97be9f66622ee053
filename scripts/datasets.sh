# shellcheck shell=bash
# Sourced by common.sh: all that is particular to a data set.
set -euo pipefail

DATASETS=(affectnet avcaffe chalearn cremad custom dfew enterface fer2013 ferv39k mafw rafdb ravdess
  werewolf_xl)

# folds_in DIR: numbers of its folders split01, split02, ...; none where it holds one split
folds_in() {
  local fold numbers=()
  for fold in "$1"/split*; do
    if [[ ${fold##*/} =~ ^split[0-9]+$ && ! -e $1/train.csv ]]; then
      numbers+=($((10#${fold##*split})))
    fi
  done
  echo "${numbers[*]-}"
}

# use_data DATASET [MORE...]: sets, for $RECIPE,
#   FOLDS           the folds to run; empty where there is one split
#   DATA_DIR        folder of the CSVs, or of the folds' folders
#   DATA_COMMAND    what makes them
#   DATA_FLAGS      of run_finetune.py
#   SAMPLING_RATE   distance in frames between neighbouring frames of a clip
#   RUN_FOLDER RUN_DIR   where runs of this kind go; where fine-tuned ones do
# The published scripts are for DFEW, FERV39k and MAFW; the recipe of the others is that of DFEW. Of
# videos crop faces first (python -m preprocess.faces). TARGET is a choice of labels. MORE names are
# listed as allowed, too.
use_data() {
  one_of "data set" "$1" "${DATASETS[@]}" "${@:2}"
  local folds='' data=saved/data/$1 docs=docs/datasets_lab.md numbers=()
  RUN_FOLDER=$1 RUN_DIR='' SAMPLING_RATE=4
  case $1 in
    dfew)
      folds='1 2 3 4 5' data+=/org docs=docs/data.md
      DATA_FLAGS=(--data_set DFEW --nb_classes 7)
      ;;
    ferv39k) # every frame
      data+=/all_scenes docs=docs/data.md SAMPLING_RATE=1
      DATA_FLAGS=(--data_set FERV39k --nb_classes 7)
      if [[ $RECIPE != svfap_base ]]; then FINETUNE_BATCH=30; fi # 120 clips per step, as released
      ;;
    mafw)
      folds='1 2 3 4 5' data+=/single docs=docs/data.md
      DATA_FLAGS=(--data_set MAFW --nb_classes 11)
      ;;
    cremad) # folds by subject; the papers use similarity-aligned crops, as of the next two
      folds='1 2 3 4 5' DATA_FLAGS=(--data_set CREMA-D --nb_classes 6)
      ;;
    enterface) folds='1 2 3 4 5' DATA_FLAGS=(--data_set eNTERFACE05 --nb_classes 6) ;;
    ravdess) folds='1 2 3 4 5 6' DATA_FLAGS=(--data_set RAVDESS --nb_classes 8) ;;
    werewolf_xl) # three dimensions; without mixing of clips
      folds='1 2 3 4 5'
      DATA_FLAGS=(--data_set Werewolf-XL --nb_classes 3 --mixup 0 --cutmix 0)
      ;;
    avcaffe) # TARGET: both (a head each), arousal, valence; averaged over the clips of a task video
      data+=/${TARGET:=both} RUN_FOLDER+=/$TARGET
      DATA_FLAGS=(--data_set AVCAffe --average_by groups)
      ;;
    chalearn) # five traits: a sigmoid head, without mixing of clips
      DATA_FLAGS=(--data_set ChaLearn --nb_classes 5 --head_activation_func sigmoid --mixup 0
        --cutmix 0)
      ;;
    affectnet) # TARGET: expression, valence_arousal, both. Single images: a clip is one, repeated
      data+=/${TARGET:=expression} RUN_FOLDER+=/$TARGET SAMPLING_RATE=1
      DATA_FLAGS=(--data_set custom)
      ;;
    fer2013) SAMPLING_RATE=1 DATA_FLAGS=(--data_set FER2013 --nb_classes 7) ;;
    rafdb) SAMPLING_RATE=1 DATA_FLAGS=(--data_set RAF-DB --nb_classes 7) ;;
    custom) # one split, or the folds that are there; names and task come from classes.json in them
      data=saved/data/mine
      folds=$(folds_in "${DATA_DIR:-$data}") DATA_FLAGS=(--data_set custom) RUN_DIR=saved/model/mine
      if [[ $RECIPE != svfap_base ]]; then RUN_DIR+=_$RECIPE; fi
      ;;
  esac
  FOLDS=${folds:+${FOLDS:-$folds}} DATA_DIR=${DATA_DIR:-$data}
  DATA_COMMAND="python -m preprocess.$1 --dataset_dir DIR ($docs)"
  if [[ $1 == custom ]]; then
    DATA_COMMAND='python -m preprocess.custom FOLDER --output_dir DIR (docs/custom_data.md)'
  fi
  case $RECIPE in
    sslfer_*) RUN_DIR=saved/model/finetuning/$RUN_FOLDER/$RECIPE ;;
    *) RUN_DIR=${RUN_DIR:-saved/model/finetuning/$RUN_FOLDER/${RECIPE}_frame_16x${SAMPLING_RATE}_lr1e-3_e100} ;;
  esac
  read -ra numbers <<<"$FOLDS"
  if [[ -n ${ARRAY_TASK:-} ]]; then
    if ((ARRAY_TASK > (${#numbers[@]} ? ${#numbers[@]} : 1))); then
      echo "no fold for array task $ARRAY_TASK: nothing to do"
      exit
    fi
    FOLDS=${numbers[ARRAY_TASK - 1]-}
  fi
}

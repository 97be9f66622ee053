# shellcheck shell=bash
# FERV39k: one split, 7 classes, every frame.
set -euo pipefail
FOLDS= # one split
DATA_DIR=${DATA_DIR:-saved/data/ferv39k/all_scenes}
DATA_COMMAND='python -m preprocess.ferv39k --dataset_dir DIR (docs/data.md)'
DATA_FLAGS=(--data_set FERV39k --nb_classes 7)
SAMPLING_RATE=1
if [[ $RECIPE != svfap_base ]]; then FINETUNE_BATCH=30; fi # 120 clips per step, as released

# shellcheck shell=bash
# Your own data (preprocess.custom), one split; class names and task come from classes.json
# beside the CSVs. For folds, run the recipe once per fold with DATA_DIR=saved/data/mine/split01
# OUTPUT_DIR=saved/model/mine/split01, and so on.
set -euo pipefail
FOLDS= # one split
DATA_DIR=${DATA_DIR:-saved/data/mine}
DATA_COMMAND='python -m preprocess.custom FOLDER --output_dir DIR (docs/custom_data.md)'
DATA_FLAGS=(--data_set custom)
RUN_DIR=saved/model/mine
if [[ $RECIPE != svfap_base ]]; then RUN_DIR=${RUN_DIR}_$RECIPE; fi

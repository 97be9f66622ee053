# shellcheck shell=bash
# AffectNet: single images, a clip is the image repeated; the recipe is that of DFEW. TARGET is
# expression, valence_arousal or both; class names and task come from classes.json beside the CSVs.
set -euo pipefail
FOLDS= # one split
TARGET=${TARGET:-expression}
RUN_FOLDER=affectnet/$TARGET
DATA_DIR=${DATA_DIR:-saved/data/affectnet/$TARGET}
DATA_COMMAND='python -m preprocess.affectnet --dataset_dir DIR (docs/datasets_lab.md)'
DATA_FLAGS=(--data_set custom)
SAMPLING_RATE=1

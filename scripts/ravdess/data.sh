# shellcheck shell=bash
# RAVDESS: six folds by actor, 8 classes. The published scripts have no recipe for it: it is the
# one of DFEW. Crop faces first (python -m preprocess.faces); the papers use similarity-aligned
# crops.
set -euo pipefail
FOLDS=${FOLDS:-1 2 3 4 5 6}
DATA_DIR=${DATA_DIR:-saved/data/ravdess}
DATA_COMMAND='python -m preprocess.ravdess --dataset_dir DIR (docs/datasets_lab.md)'
DATA_FLAGS=(--data_set RAVDESS --nb_classes 8)

# shellcheck shell=bash
# MAFW: five folds, 11 classes.
set -euo pipefail
FOLDS=${FOLDS:-1 2 3 4 5}
DATA_DIR=${DATA_DIR:-saved/data/mafw/single}
DATA_COMMAND='python -m preprocess.mafw --dataset_dir DIR (docs/data.md)'
DATA_FLAGS=(--data_set MAFW --nb_classes 11)

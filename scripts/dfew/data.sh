# shellcheck shell=bash
# DFEW: five folds, 7 classes.
set -euo pipefail
FOLDS=${FOLDS:-1 2 3 4 5}
DATA_DIR=${DATA_DIR:-saved/data/dfew/org}
DATA_COMMAND='python -m preprocess.dfew --dataset_dir DIR (docs/data.md)'
DATA_FLAGS=(--data_set DFEW --nb_classes 7)

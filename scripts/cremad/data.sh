# shellcheck shell=bash
# CREMA-D: five folds by subject, 6 classes. The published scripts have no recipe for it: it is
# the one of DFEW. Crop faces first (python -m preprocess.faces); the papers use similarity-aligned
# crops.
set -euo pipefail
FOLDS=${FOLDS:-1 2 3 4 5}
DATA_DIR=${DATA_DIR:-saved/data/cremad}
DATA_COMMAND='python -m preprocess.cremad --dataset_dir DIR (docs/datasets_lab.md)'
DATA_FLAGS=(--data_set CREMA-D --nb_classes 6)

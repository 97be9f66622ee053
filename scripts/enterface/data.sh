# shellcheck shell=bash
# eNTERFACE05: five folds by subject, 6 classes. The published scripts have no recipe for it: it
# is the one of DFEW. Crop faces first (python -m preprocess.faces); the papers use
# similarity-aligned crops.
set -euo pipefail
FOLDS=${FOLDS:-1 2 3 4 5}
DATA_DIR=${DATA_DIR:-saved/data/enterface}
DATA_COMMAND='python -m preprocess.enterface --dataset_dir DIR (docs/datasets_lab.md)'
DATA_FLAGS=(--data_set eNTERFACE05 --nb_classes 6)

# shellcheck shell=bash
# RAF-DB (basic): single images, a clip is the image repeated; 7 classes; the recipe is that of
# DFEW.
set -euo pipefail
FOLDS= # one split
DATA_DIR=${DATA_DIR:-saved/data/rafdb}
DATA_COMMAND='python -m preprocess.rafdb --dataset_dir DIR (docs/datasets_lab.md)'
DATA_FLAGS=(--data_set RAF-DB --nb_classes 7)
SAMPLING_RATE=1

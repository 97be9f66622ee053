# shellcheck shell=bash
# FER2013: single images, a clip is the image repeated; 7 classes; the recipe is that of DFEW.
set -euo pipefail
FOLDS= # one split
DATA_DIR=${DATA_DIR:-saved/data/fer2013}
DATA_COMMAND='python -m preprocess.fer2013 --dataset_dir DIR (docs/datasets_lab.md)'
DATA_FLAGS=(--data_set FER2013 --nb_classes 7)
SAMPLING_RATE=1

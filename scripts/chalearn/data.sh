# shellcheck shell=bash
# ChaLearn First Impressions: five traits. The published scripts have no recipe for it: it is the
# one of DFEW with a sigmoid head and without mixing of clips.
set -euo pipefail
FOLDS= # one split
DATA_DIR=${DATA_DIR:-saved/data/chalearn}
DATA_COMMAND='python -m preprocess.chalearn --dataset_dir DIR (docs/datasets_lab.md)'
DATA_FLAGS=(--data_set ChaLearn --nb_classes 5 --head_activation_func sigmoid --mixup 0 --cutmix 0)

# shellcheck shell=bash
# Werewolf-XL: five folds by session, three dimensions. The published scripts have no recipe for
# it: it is the one of DFEW without mixing of clips. Crop faces first (python -m preprocess.faces).
set -euo pipefail
FOLDS=${FOLDS:-1 2 3 4 5}
DATA_DIR=${DATA_DIR:-saved/data/werewolf_xl}
DATA_COMMAND='python -m preprocess.werewolf_xl --dataset_dir DIR (docs/datasets_lab.md)'
DATA_FLAGS=(--data_set Werewolf-XL --nb_classes 3 --mixup 0 --cutmix 0)

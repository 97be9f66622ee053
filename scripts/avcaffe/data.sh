# shellcheck shell=bash
# AVCAffe: official participants. The published scripts have no recipe for it: it is the one of
# DFEW. TARGET is both (one head each for arousal and valence), arousal or valence. Scores are
# averaged over the clips of a task video (groups.csv).
set -euo pipefail
FOLDS= # one split
TARGET=${TARGET:-both}
RUN_FOLDER=avcaffe/$TARGET
DATA_DIR=${DATA_DIR:-saved/data/avcaffe/$TARGET}
DATA_COMMAND='python -m preprocess.avcaffe --dataset_dir DIR (docs/datasets_lab.md)'
DATA_FLAGS=(--data_set AVCAffe --average_by groups)

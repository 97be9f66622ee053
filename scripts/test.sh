#!/usr/bin/env bash
# All checks: style, tests, and a small run from drawn videos to an evaluated model.
#
#   bash scripts/test.sh [flags of pytest]
#
# Variables: those of scripts/setup_env.sh, TEST_PROCESSES (default 2). Tests marked `slow` are left
# out; for them:
#   .venv/bin/python -m pytest -m slow
# (tests/faults among them, see docs/reproduction.md)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup_env.sh test faces onnx parquet
if [[ ${VENV:-.venv} != none ]]; then export PYTHON=$PWD/${VENV:-.venv}/bin/python; fi
source scripts/common.sh
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # several test processes share the cores

echo "== style"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .

echo "== from drawn videos to an evaluated model"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
NUM_PRETRAIN_VIDEOS=16 NUM_VIDEOS=42 NUM_IDENTITIES=10 PRETRAIN_EPOCHS=2 FINETUNE_EPOCHS=2 \
  PRETRAIN_BATCH=8 FINETUNE_BATCH=8 NUM_PICTURES=2 COMPARE=1 VENV=none \
  bash scripts/quickstart.sh --output_dir "$folder"
for result in pretrain/checkpoint-last.pth pretrained/metrics.json scratch/pred.csv; do
  need_file "$folder/runs/$result" "the run above should have written it"
done

echo "== tests"
"$PYTHON" -m pytest -m "not slow" -n "${TEST_PROCESSES:-2}" "$@"

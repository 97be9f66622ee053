# shellcheck shell=bash
# Sourced by the scripts: goes to the repository's root, chooses a python, starts runs.
#   PYTHON   interpreter (default: .venv/bin/python if there, else python3)
#   GPUS     processes on this machine; 1: plain python; 0: plain python on the CPU
#   NNODES   machines (default 1); more need RDZV_ENDPOINT=host:port, the same RDZV_ID on all
# Relative paths, defaults and yours, start at the repository's root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -z ${PYTHON:-} ]]; then
  PYTHON=python3
  if [[ -x .venv/bin/python ]]; then PYTHON=.venv/bin/python; fi
fi
EXIT_INTERRUPTED=75 # a run that was told to stop has saved; the same command goes on
NUM_SIGNALS=0

step() { printf '\n== %s\n' "$*"; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# interruptible COMMAND...: hands SIGTERM and Ctrl-C on as SIGTERM, on which a run saves and stops.
# Returns COMMAND's status, or 75 if it stopped because of such a signal.
interruptible() {
  local child status seen
  NUM_SIGNALS=0
  "$@" &
  child=$!
  trap 'NUM_SIGNALS=$((NUM_SIGNALS + 1)); kill -TERM "$child" 2>/dev/null || true' TERM INT
  while true; do
    seen=$NUM_SIGNALS status=0
    wait "$child" || status=$?
    if ((NUM_SIGNALS == seen)); then break; fi # otherwise the signal ended `wait`, not the child
  done
  trap - TERM INT
  if ((NUM_SIGNALS > 0 && status != 0)); then status=$EXIT_INTERRUPTED; fi
  if ((status == EXIT_INTERRUPTED)); then
    echo "interrupted; the same command goes on where it stopped" >&2
  fi
  return "$status"
}

# launch run_*.py FLAGS...: one process, or one per GPU and machine under torchrun.
launch() {
  local command=("$PYTHON") more=()
  if ((${NNODES:-1} > 1)); then
    command+=(-m torch.distributed.run --nnodes "$NNODES" --nproc_per_node "$GPUS"
      --rdzv_backend c10d --rdzv_id "${RDZV_ID:?}" --rdzv_endpoint "${RDZV_ENDPOINT:?}")
  elif ((GPUS > 1)); then
    command+=(-m torch.distributed.run --standalone --nproc_per_node "$GPUS")
  elif ((GPUS == 0)); then
    more=(--device cpu)
  fi
  interruptible "${command[@]}" "$@" ${more[@]+"${more[@]}"}
}

# need_file FILE REMEDY
need_file() {
  if [[ ! -e $1 ]]; then fail "$1 does not exist; $2"; fi
}

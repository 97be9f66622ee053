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

# usage: the comment at the head of the script, as help
usage() {
  sed -n '2,/^set -euo/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
  exit 2
}

# one_of WHAT NAME ALLOWED...: fails where the name is none of these, and suggests one
one_of() {
  local known
  for known in "${@:3}"; do
    if [[ $known == "$2" ]]; then return; fi
  done
  fail "no $1 '$2'$("$PYTHON" -c 'import sys
from svfap.suggest import did_you_mean
name, *known = sys.argv[1:]
print(did_you_mean(name.replace("-", "_"), known) or ";")' "${@:2}") there are: ${*:3}"
}

# check_flags STAGE FLAGS...: refuses what cannot be meant before anything that takes minutes; STAGE is
# finetuning or pretraining
check_flags() {
  "$PYTHON" -c 'import sys
from svfap.engine.flags import config, inputs, parsing
name, stage, *words = sys.argv[1:]
parser = getattr(config, f"{stage}_parser")()
parser.prog = name
try:
    inputs.check_inputs(parsing.parse_flags(parser, words), stage, with_data=False)
except (ValueError, OSError) as error:
    parser.error(error)' "$(basename "$0")" "$@"
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

# folder_name DIR: its name, and a sum of its path, since other folders have that name
folder_name() {
  local name
  name=$(basename "$1" | tr -cs 'A-Za-z0-9._-' '_' | sed 's/_*$//')
  echo "$name-$(cd "$1" && pwd -P | cksum | cut -d ' ' -f 1)"
}

# true_path PATH: without links and dots; what is not there, such as hf://..., as it is
true_path() { if [[ -e $1 ]]; then realpath "$1"; else echo "$1"; fi; }

# keep_settings DIR FLAG LINE...: notes them in DIR, or fails where it was made with others; FLAG names
# another DIR
keep_settings() {
  mkdir -p "$1"
  if [[ ! -f $1/settings.txt ]]; then printf '%s\n' "${@:3}" >"$1/settings.txt"; fi
  if ! printf '%s\n' "${@:3}" | diff -b "$1/settings.txt" - >&2; then
    fail "$1 was made with other settings (< there, > now); set another $2"
  fi
}

# need_file FILE REMEDY
need_file() {
  if [[ ! -e $1 ]]; then fail "$1 does not exist; $2"; fi
}

# need_weights SOURCE REMEDY: a file; hf://... and names of a catalogue are the programs' to find
need_weights() {
  if [[ $1 == */* && $1 != hf://* ]]; then need_file "$1" "$2"; fi
}

# batch_size CLIPS: the clips per process of one of NNODES machines, or BATCH_SIZE
batch_size() {
  if [[ -z ${BATCH_SIZE:-} ]] && (($1 % ${NNODES:-1})); then
    fail "$1 clips per GPU cannot be shared by $NNODES machines evenly; set BATCH_SIZE"
  fi
  echo "${BATCH_SIZE:-$(($1 / ${NNODES:-1}))}"
}

# fold_name NUMBER: of its folder
fold_name() { if [[ -n $1 ]]; then printf 'split%02d' "$1"; fi; }

# run_folds DATA_DIR FOLDS RUNS FLAGS...: run_finetune.py on one split (FOLDS empty) or fold, or
# engine.crossval on several; {fold} in FLAGS becomes the fold's folder. Then the table.
run_folds() {
  local numbers=() fold flags=("${@:4}")
  need_file "$1" "make it: $DATA_COMMAND"
  read -ra numbers <<<"$2"
  if ((${#numbers[@]} > 1)); then
    if ((${NNODES:-1} > 1)); then
      fail "several machines train one fold at a time: set FOLDS to one, or use scripts/slurm"
    fi
    if ((GPUS == 0)); then flags+=(--device cpu); fi
    interruptible "$PYTHON" -m engine.crossval --data_path "$1" --output_dir "$3" \
      --folds "${numbers[@]}" --processes $((GPUS > 0 ? GPUS : 1)) -- "${flags[@]}"
    return
  fi
  fold=$(fold_name "$2")
  need_file "$1${fold:+/$fold}" "make it: $DATA_COMMAND"
  launch run_finetune.py --data_path "$1${fold:+/$fold}" --log_dir "$3${fold:+/$fold}" \
    --output_dir "$3${fold:+/$fold}" "${flags[@]//\{fold\}/$fold}"
  if [[ -f $3${fold:+/$fold}/metrics.json ]]; then # there is none after --dry_run
    "$PYTHON" -m engine.summarize "$3${fold:+/$fold}"
  fi
}

source scripts/models.sh
source scripts/datasets.sh

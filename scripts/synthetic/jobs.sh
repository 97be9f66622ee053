# shellcheck shell=bash
# Sourced, after common.sh, by scripts that train many small models: some at a time, each on a core.
set -euo pipefail

# logged RUN_DIR COMMAND...: its output goes to RUN_DIR/output.log
logged() {
  local status=0
  mkdir -p "$1"
  echo "$(date +%H:%M:%S) $1"
  "${@:2}" >>"$1/output.log" 2>&1 || status=$?
  if ((status && status != EXIT_INTERRUPTED)); then
    echo "error: $1 failed with status $status; the end of $1/output.log:" >&2
    tail -n 5 "$1/output.log" >&2
  fi
  return "$status"
}

# run_jobs JOB...: JOBS of them at a time, each a line of words; stops all when one fails.
run_jobs() {
  local claims lanes=() lane status=0 code seen
  claims=$(mktemp -d)
  for ((lane = 0; lane < JOBS; lane++)); do
    work_off "$claims" "$@" &
    lanes+=($!)
  done
  NUM_SIGNALS=0
  trap 'NUM_SIGNALS=$((NUM_SIGNALS + 1)); touch "$claims/stop"; kill -TERM "${lanes[@]}" 2>/dev/null || true' TERM INT
  for lane in "${lanes[@]}"; do
    while true; do
      seen=$NUM_SIGNALS code=0
      wait "$lane" || code=$?
      if ((NUM_SIGNALS == seen)); then break; fi
    done
    if ((code && (status == 0 || status == EXIT_INTERRUPTED))); then status=$code; fi
  done
  trap - TERM INT
  rm -rf "$claims"
  if ((status)); then exit "$status"; fi
}

# work_off CLAIMS JOB...: one lane; takes the jobs that no other lane has taken.
work_off() {
  local number=0 job
  for job in "${@:2}"; do
    number=$((number + 1))
    if [[ -e $1/stop ]]; then return "$EXIT_INTERRUPTED"; fi
    if ! mkdir "$1/$number" 2>/dev/null; then continue; fi
    # shellcheck disable=SC2086
    $job || {
      local status=$?
      touch "$1/stop"
      return "$status"
    }
  done
}

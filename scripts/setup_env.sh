#!/usr/bin/env bash
# Make the environment .venv in the checkout and install the project from pyproject.toml into it.
# Does nothing when .venv is already what pyproject.toml and the constraints ask for.
#
#   bash scripts/setup_env.sh [EXTRA...]        e.g. `test`
#
# Variables: PYTHON   interpreter to build from (default: the first of python3, python3.12, ...
#                     that is 3.10 or newer)
#            VENV     folder of the environment (default .venv); VENV=none: install nothing
#            CONSTRAINTS  file with the versions to take (default constraints.txt, those that are
#                     tested); CONSTRAINTS=none: the newest that pyproject.toml allows
# pip's own variables (PIP_INDEX_URL, ...) choose where packages come from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=${VENV:-.venv}
if [[ $VENV == none ]]; then exit 0; fi

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.12 python3.13 python3.11 python3.10}; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
      echo "$candidate"
      return
    fi
  done
  echo "error: no Python 3.10 or newer among: ${PYTHON:-python3 python3.10..3.13}; set PYTHON" >&2
  return 1
}

# The stamp: what .venv was made from, and the extras that are in it.
stamp=$VENV/.installed
CONSTRAINTS=${CONSTRAINTS:-constraints.txt}
if [[ $CONSTRAINTS == none ]]; then CONSTRAINTS=/dev/null; fi
wanted=$(cat pyproject.toml "$CONSTRAINTS" | cksum | tr ' ' -)
have='' extras=''
if [[ -f $stamp ]]; then read -r have extras <"$stamp" || true; fi
extras=${extras:+ $extras}
current=1
if [[ $have != "$wanted" || ! -x $VENV/bin/python ]]; then current=0; fi
for extra in "$@"; do
  if [[ " $extras " != *" $extra "* ]]; then
    current=0
    extras="$extras $extra"
  fi
done
if ((current)); then exit 0; fi

if ! "$VENV/bin/python" -c '' 2>/dev/null; then
  python=$(find_python)
  echo "making the environment $VENV with $("$python" --version)"
  if ! "$python" -m venv --clear "$VENV"; then
    echo "error: $python cannot make environments; on Debian: apt-get install python3-venv" >&2
    exit 1
  fi
fi
list=$(xargs <<<"$extras" | tr ' ' ',')
echo "installing from pyproject.toml${list:+ with [$list]}: takes minutes, PyTorch is large"
rm -f "$stamp"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c "$CONSTRAINTS" \
  -e ".${list:+[$list]}"
echo "$wanted$extras" >"$stamp"

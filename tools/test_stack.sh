#!/usr/bin/env bash
# Makes an environment that users have, other than the tested one, and runs in it the part of the test suite that it
# can run. Environments are kept: a second run only tests.
#
#   bash tools/test_stack.sh upstream         torch 2.1 and upstream's toolboxes; builds mmcv's operators once
#   bash tools/test_stack.sh upstream-light   of these only mmengine, mmpretrain and mmcv-lite: nothing is compiled
#   bash tools/test_stack.sh newest           the newest torch, with mmengine only
#   bash tools/test_stack.sh onedl            the same tests in the environment of tools/setup.sh
#
# Further arguments go to pytest; tests named there replace the stack's own.
#
# Environment variables:
#   PYTHON               interpreter to make the environment with (upstream: 3.10 or 3.11; newest: 3.11 to 3.13)
#   PELK_MM_CACHE        where environments, mmcv's wheels and logs are kept (default: ~/.cache/pelk_mm)
#   PELK_MM_MMCV_WHEELS  as for tools/setup.sh
set -euo pipefail
unset CDPATH

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
CHECK="$ROOT/tools/check_environment.py"
UV_VERSION=0.9.5
USER_CACHE="${XDG_CACHE_HOME:-${HOME:-$ROOT}/.cache}"
CACHE="${PELK_MM_CACHE:-$USER_CACHE/pelk_mm}"
[[ "$CACHE" == /* ]] || CACHE="$PWD/$CACHE"

say() { printf '[stack] %s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

NAME="${1:-}"
CORE=(tests/ops tests/layers tests/models)
STANDARD_TOOLS=tests/tools/test_standard_tools.py
PYTHONS=(3.10 3.11)
FITTING='3.10 or 3.11'
LEFT_OUT=''
WITHOUT_OPERATORS=''
case "$NAME" in
  upstream | onedl) TESTS=("${CORE[@]}" tests/sparsity tests/checkpoints tests/test_plugin.py "$STANDARD_TOOLS") ;;
  upstream-light)
    TESTS=("${CORE[@]}" tests/checkpoints "$STANDARD_TOOLS")
    LEFT_OUT="mmcv's operators, mmdet, mmseg (bash tools/test_stack.sh upstream has them)"
    ;;
  newest)
    TESTS=("${CORE[@]}")
    PYTHONS=(3.13 3.12 3.11)
    FITTING='3.13, 3.12 or 3.11'
    LEFT_OUT='mmcv and the toolboxes, which have no release for this torch'
    ;;
  -h | --help) sed -n '2,/^set /{s/^# \{0,1\}//;/^set /d;p;}' "${BASH_SOURCE[0]}" && exit 0 ;;
  *) die "the stack must be upstream, upstream-light, newest or onedl, but got '$NAME' (see --help)" ;;
esac
shift
for argument in "$@"; do
  [[ ! -e "$ROOT/${argument%%::*}" ]] || TESTS=()
done

SCRIPT="tools/test_stack.sh $NAME"
VENV="$CACHE/stacks/$NAME"
STAMP="$VENV/.pelk_mm_stack"
LOCK="$ROOT/requirements/stacks/$NAME.txt"
MMCV_FILE="$ROOT/requirements/stacks/mmcv.txt"
# shellcheck source=tools/setup/environment.sh
source "$ROOT/tools/setup/environment.sh"
# shellcheck source=tools/setup/preflight.sh
source "$ROOT/tools/setup/preflight.sh"
# shellcheck source=tools/setup/mmcv.sh
source "$ROOT/tools/setup/mmcv.sh"

make_environment() {
  local base
  # Packages of earlier requirements would stay beside the new ones.
  [[ ! -e "$STAMP" ]] || rm -rf -- "$VENV"
  base="$(python_of "${PYTHONS[@]}")" ||
    die "the stack $NAME needs Python $FITTING, but $base: name one as" \
      "PYTHON=/path/to/python${PYTHONS[0]} bash $SCRIPT"
  make_cache
  [[ "$NAME" == upstream ]] || WITHOUT_OPERATORS=1
  if must_build "$base"; then check_compiler "$base"; fi
  check_disk "$base"
  make_venv "$base"
  install_uv
  install_stack
  [[ "$NAME" != upstream ]] || install_mmcv
  compile_bytecode
  stack_id >"$STAMP"
}

if [[ "$NAME" == onedl ]]; then
  PYTHON="$(bash "$ROOT/tools/setup.sh" --print-python)"
else
  [[ "$(cat "$STAMP" 2>/dev/null)" == "$(stack_id)" ]] || make_environment
  PYTHON="$VENV/bin/python"
fi
cd -- "$ROOT"
say "testing $NAME: Python $(version_of "$PYTHON"), torch $("$PYTHON" -c 'import torch; print(torch.__version__)')"
[[ -z "$LEFT_OUT" ]] || say "left out: $LEFT_OUT"
PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" exec "$PYTHON" -m pytest -n auto --dist worksteal \
  -p no:cacheprovider "${TESTS[@]}" "$@"

#!/usr/bin/env bash
# Sets up the tested stack (requirements.txt). Safe to run again: a second run takes seconds and needs no network.
#
#   bash tools/setup.sh                              set up, import everything, print the versions
#   bash tools/setup.sh --without-operators          the same, but build none of mmcv's operators and need no compiler:
#                                                    classifiers and segmentors run, detectors and the test suite do not
#   PYTHON="$(bash tools/setup.sh --print-python)"   the same for scripts: stdout is the interpreter, the rest is stderr
#
# The active environment is used where the tested packages and the test tools are in it; else one is made in .venv.
# mmcv's operators are built once (about 8 minutes on 2 cores); the wheel is kept for every later environment. A run
# without --without-operators adds them to an environment that has none.
#
# Environment variables:
#   PYTHON               interpreter to use: as the active environment, or to make .venv with (3.10 to 3.12; 3.11 is
#                        tested)
#   PELK_MM_VENV         where the environment is made (default: .venv in the checkout)
#   PELK_MM_CACHE        where mmcv's wheel and the build logs are kept (default: ~/.cache/pelk_mm)
#   PELK_MM_MMCV_WHEELS  a folder, a page of links or an index (its address ends in /simple) with wheels of mmcv: one
#                        that fits is taken instead of building
set -euo pipefail
unset CDPATH

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
CHECK="$ROOT/tools/check_environment.py"
LOCK="$ROOT/requirements/lock.txt"
MMCV_FILE="$ROOT/requirements/mmcv.txt"
SCRIPT=tools/setup.sh
UV_VERSION=0.9.5
USER_CACHE="${XDG_CACHE_HOME:-${HOME:-$ROOT}/.cache}"

absolute() { case "$1" in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$PWD/$1" ;; esac; }
VENV="$(absolute "${PELK_MM_VENV:-$ROOT/.venv}")"
CACHE="$(absolute "${PELK_MM_CACHE:-$USER_CACHE/pelk_mm}")"
STAMP="$VENV/.pelk_mm_stack"
WITHOUT_OPERATORS='' # or the flag of that name

say() { printf '[setup] %s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# shellcheck source=tools/setup/environment.sh
source "$ROOT/tools/setup/environment.sh"
# shellcheck source=tools/setup/preflight.sh
source "$ROOT/tools/setup/preflight.sh"
# shellcheck source=tools/setup/mmcv.sh
source "$ROOT/tools/setup/mmcv.sh"

# --- Which Python ---------------------------------------------------------------------------------------------------

# Asks tools/check_environment.py, run by the interpreter $1.
ask() { "$1" "$CHECK" "${@:2}" ${WITHOUT_OPERATORS:+"$WITHOUT_OPERATORS"}; }
is_supported() { [[ "$1" == 3.10 || "$1" == 3.11 || "$1" == 3.12 ]]; }

# Prints the active environment's interpreter where the tested packages import in it.
active_python() {
  local name python reason names=(python python3)
  [[ -z "${PYTHON:-}" ]] || names=("$PYTHON")
  for name in "${names[@]}"; do
    # The shell's word for it may be a shim that starts an interpreter of another folder.
    python="$("$name" -c 'import sys; print(sys.executable)' 2>/dev/null)" || continue
    # The environment of ours is no user's: it is kept up to date.
    [[ ! "$("$python" -c 'import sys; print(sys.prefix)')" -ef "$VENV" ]] || return 1
    if ! reason="$(ask "$python" --missing 2>/dev/null)"; then
      reason="it lacks ${reason:-the tested packages}"
    elif ask "$python" --installed-from "$ROOT" || reason="$(ask "$python" --stack 2>&1 >/dev/null)"; then
      printf '%s\n' "$python"
      return 0
    fi
    if [[ -n "${PYTHON:-}${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]]; then
      say "not using $python as it is: ${reason##*$'\n'}" >&2
    fi
  done
  return 1
}

# --- Installing -------------------------------------------------------------------------------------------------------

install_everything() {
  local base version stale='' started=$SECONDS
  if version="$(version_of "$VENV/bin/python")" && ! is_supported "$version"; then
    die "$VENV holds Python $version, but the stack needs 3.10, 3.11 or 3.12 (3.11 is tested): remove it, or name" \
      "another place in PELK_MM_VENV"
  fi
  base="$(python_of 3.11 3.12 3.10)" ||
    die "needs Python 3.10, 3.11 or 3.12 (3.11 is tested), but $base: install python3.11, or name one as" \
      "PYTHON=/path/to/python3.11 bash tools/setup.sh"
  [[ ! -e "$VENV" || -f "$VENV/pyvenv.cfg" || -z "$(ls -A "$VENV")" ]] ||
    die "$VENV exists and is not a virtual environment: move it away, or name another place in PELK_MM_VENV"
  if must_build "$base"; then check_compiler "$base"; fi
  check_disk "$base"
  make_cache
  if [[ "$(cat "$STAMP" 2>/dev/null)" != "$(stack_id)" || -n "$(missing_packages)" ]]; then
    stale=1
    rm -f "$STAMP"
    make_venv "$base"
  fi
  install_uv
  if [[ -n "$stale" ]]; then
    install_stack
    say "the packages are in place after $((SECONDS - started)) s, downloads included"
  fi
  install_mmcv # torch has to be there
  compile_bytecode
  stack_id >"$STAMP"
}

# What is missing besides mmcv's operators.
missing_packages() { "$VENV/bin/python" "$CHECK" --missing --without-operators 2>/dev/null || echo 'no Python'; }

install_editable() {
  local log="$CACHE/logs/pelk_mm.log"
  make_cache
  say "installing pelk_mm from $ROOT (editable)"
  "$1" -m pip install --disable-pip-version-check --no-index --no-deps --no-build-isolation -e "$ROOT" >"$log" 2>&1 ||
    explain_failure 'installing pelk_mm' "$log"
}

main() {
  local argument print_python='' python mend started=$SECONDS
  for argument in "$@"; do
    case "$argument" in
      --print-python) print_python=1 ;;
      --without-operators) WITHOUT_OPERATORS="$argument" ;;
      -h | --help) sed -n '2,/^set /{s/^# \{0,1\}//;/^set /d;p;}' "${BASH_SOURCE[0]}" && exit 0 ;;
      *)
        die "unknown argument $argument (there are --without-operators and --print-python; the rest is set by" \
          "environment variables, see --help)"
        ;;
    esac
  done
  [[ -z "${PYTHON:-}" ]] || version_of "$PYTHON" >/dev/null ||
    die "PYTHON=$PYTHON cannot be run: name a Python interpreter, or unset PYTHON"
  exec 3>&1
  [[ -z "$print_python" ]] || exec 1>&2

  if python="$(active_python)"; then
    say "using the active environment's $python"
    mend="mend the package named above, or leave that environment: a new one is then made in $VENV"
  else
    python="$VENV/bin/python"
    mend="remove $VENV and run tools/setup.sh again"
    if [[ "$(cat "$STAMP" 2>/dev/null)" != "$(stack_id)" ]] || ! ask "$python" --missing >/dev/null 2>&1; then
      install_everything
    fi
  fi
  ask "$python" --installed-from "$ROOT" || install_editable "$python"
  ask "$python" || die "the set-up is not whole: $mend"
  say "ready in $((SECONDS - started)) s; interpreter: $python"
  [[ -z "$print_python" ]] || printf '%s\n' "$python" >&3
}

main "$@"
exit # this file may have changed by now

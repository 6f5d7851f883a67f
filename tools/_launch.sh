# shellcheck shell=bash
# Sourced by dist_*.sh and slurm_*.sh: where the checkout is, which Python to use, and how errors look.
unset CDPATH
ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
# What an interrupted training tells the user to type again.
PELK_MM_COMMAND="$(printf '%q ' bash "$0" "$@")"
export PELK_MM_COMMAND

die() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# The interpreter named by PYTHON; else the active one; else the one that tools/setup.sh made in the checkout.
find_python() {
  local candidate
  local has_stack='import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ("torch", "mmengine"))))'
  for candidate in ${PYTHON:+"$PYTHON"} ${PYTHON:-python "${PELK_MM_VENV:-$ROOT/.venv}/bin/python"}; do
    if command -v -- "$candidate" >/dev/null && "$candidate" -c "$has_stack" 2>/dev/null; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  die "no Python with torch and mmengine (tried ${PYTHON:-python and .venv}): run bash tools/setup.sh, or set PYTHON"
}

# A config named as in the README works from every folder.
find_config() {
  if [[ ! -e "$1" && -e "$ROOT/$1" ]]; then
    printf '%s\n' "$ROOT/$1"
  else
    printf '%s\n' "$1"
  fi
}

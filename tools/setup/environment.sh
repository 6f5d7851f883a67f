# shellcheck shell=bash
# Part of tools/setup.sh and tools/test_stack.sh: a Python that fits, an environment in $VENV, uv in it.

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# Prints an interpreter of one of the versions "$@", the first in their order; where none fits, fails and prints what
# there is. An environment that exists keeps its own.
python_of() {
  local wanted name version found='' names=()
  for wanted in "$@"; do
    # pyenv's own commands run the versions that it is set to, and no others.
    names+=("python$wanted" "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$wanted".*/bin/python)
  done
  names+=(python3 python)
  [[ -z "${PYTHON:-}" ]] || names=("$PYTHON")
  ! version_of "$VENV/bin/python" >/dev/null || names=("$VENV/bin/python")
  for name in "${names[@]}"; do
    version="$(version_of "$name")" || continue
    if [[ " $* " == *" $version "* ]]; then
      command -v -- "$name"
      return 0
    fi
    found="$found${found:+, }$name is $version"
  done
  printf '%s\n' "${found:-no Python was found}"
  return 1
}

make_venv() {
  local log="$CACHE/logs/venv.log"
  if ! version_of "$VENV/bin/python" >/dev/null; then
    say "making $VENV with $1 ($(version_of "$1"))"
    "$1" -m venv --clear "$VENV" >"$log" 2>&1 || {
      rm -f "$VENV/bin/python"
      die "$1 cannot make virtual environments: install its venv module (Debian, Ubuntu:" \
        "apt-get install python$(version_of "$1")-venv), or name another Python in PYTHON (log: $log)"
    }
  fi
  "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || "$VENV/bin/python" -m ensurepip >"$log" 2>&1 ||
    die "no pip in $VENV: remove that folder and run $SCRIPT again"
}

# uv, from the index that pip is set to: its cache of unpacked wheels makes a further environment a matter of seconds.
install_uv() {
  local log="$CACHE/logs/uv.log" index
  if [[ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]]; then
    index="${PIP_INDEX_URL:-$("$VENV/bin/python" -m pip config get global.index-url 2>/dev/null || true)}"
    [[ -z "$index" ]] || export UV_DEFAULT_INDEX="$index"
  fi
  [[ "$("$VENV/bin/uv" --version 2>/dev/null || true)" != "uv $UV_VERSION"* ]] || return 0
  "$VENV/bin/python" -m pip install --disable-pip-version-check --retries 2 --timeout 20 \
    "uv==$UV_VERSION" >"$log" 2>&1 || explain_failure 'installing uv' "$log"
}

# The packages of the file $LOCK, which names every one of them.
install_stack() {
  local log="$CACHE/logs/stack.log"
  say 'installing the pinned stack (about 3 GB to download the first time)'
  "$VENV/bin/uv" pip install --python "$VENV/bin/python" --no-deps -r "$LOCK" 2>&1 | tee "$log" ||
    explain_failure 'installing the pinned stack' "$log"
}

# Changes with what is pinned; kept in $STAMP once all of it is installed.
stack_id() { cat "$LOCK" "$MMCV_FILE" | cksum; }

make_cache() {
  mkdir -p "$CACHE/wheels" "$CACHE/logs" || die "cannot write to $CACHE: name another place in PELK_MM_CACHE"
}

# Where Python is told to keep no bytecode, every start would compile torch and the toolboxes again: twice the time.
compile_bytecode() {
  [[ -n "${PYTHONDONTWRITEBYTECODE:-}" ]] || return 0
  say 'compiling the packages to bytecode once, since PYTHONDONTWRITEBYTECODE is set'
  # A few packages ship files that are not meant to compile.
  "$VENV/bin/python" -m compileall -q -j 0 "$VENV/lib" >"$CACHE/logs/bytecode.log" 2>&1 || true
}

# shellcheck shell=bash
# Part of tools/setup.sh and tools/test_stack.sh: mmcv, without its operators or with those built once for each Python,
# torch and CUDA version.

# The one line of $MMCV_FILE that is not a comment: onedl-mmcv==2.3.6.
mmcv_pin() { grep -v '^#' "$MMCV_FILE"; }
mmcv_name() { sed 's/=.*//' <<<"$(mmcv_pin)"; }
mmcv_version() { sed 's/.*=//' <<<"$(mmcv_pin)"; }

has_wheel_for() {
  local python_tag
  python_tag="cp$(version_of "$1" | tr -d .)"
  compgen -G "$CACHE/wheels/mmcv$(mmcv_version)-$python_tag-*/*.whl" >/dev/null
}

# Whether operators are asked for and come from a compiler as far as one can tell before torch is there.
must_build() { [[ -z "$WITHOUT_OPERATORS${PELK_MM_MMCV_WHEELS:-}" ]] && ! has_wheel_for "$1"; }

stop_build() {
  [[ -z "${BUILD_PID:-}" ]] || kill -TERM -- "-$BUILD_PID" 2>/dev/null || true
  [[ -z "${BUILD_DIR:-}" ]] || rm -rf -- "$BUILD_DIR"
  [[ -z "${WHOLE_WHEEL:-}" ]] || rm -rf -- "$WHOLE_WHEEL"
}

# Builds in a temporary folder; only a whole wheel is moved into the cache, and an interrupted build leaves nothing.
build_mmcv() {
  local target="$1" key="$2" log="$CACHE/logs/mmcv.log" jobs memory_gb status=0
  local settings step seconds shown=0 started=$SECONDS
  check_compiler "$VENV/bin/python"
  jobs="$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)"
  memory_gb="$(awk '/^MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo 2>/dev/null || echo 1024)"
  ((jobs * 2 <= memory_gb)) || jobs=$((memory_gb > 3 ? memory_gb / 2 : 1))
  say "building mmcv's operators once for $key (about 8 minutes on 2 cores; log: $log)"
  trap stop_build EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  BUILD_DIR="$(mktemp -d "${TMPDIR:-/tmp}/pelk_mm.XXXXXX")"
  settings=(TMPDIR="$BUILD_DIR" MMCV_WITH_OPS=1 MAX_JOBS="${MAX_JOBS:-$jobs}" PATH="$VENV/bin:$PATH")
  # The key decides against CUDA where no toolkit fits; mmcv's own test only asks for a GPU.
  [[ "$key" != *-cpu-* ]] || settings+=(CUDA_VISIBLE_DEVICES= FORCE_CUDA=0)
  set -m # a process group of its own, so that stopping ends the compilers too
  # Neither pip's cache nor the index's wheels: both hand out operators of another torch.
  env "${settings[@]}" "$VENV/bin/python" -m pip wheel -v --no-build-isolation --no-deps --no-cache-dir \
    --no-binary "$(mmcv_name)" --retries 2 --timeout 20 -w "$BUILD_DIR/wheel" "$(mmcv_pin)" \
    >"$log" 2>&1 </dev/null &
  BUILD_PID=$!
  set +m
  while kill -0 "$BUILD_PID" 2>/dev/null; do
    sleep 0.5
    seconds=$((SECONDS - started))
    if ((seconds - shown >= 15)); then
      shown=$seconds
      step="$(grep -oE '^ *\[[0-9]+/[0-9]+\]' "$log" | tail -n 1 | tr -d ' []' || true)"
      say "  mmcv: ${step:+file ${step/\// of }, }$((seconds / 60)) min $((seconds % 60)) s"
    fi
  done
  wait "$BUILD_PID" || status=$?
  BUILD_PID=''
  ((status == 0)) || explain_failure "building mmcv's operators" "$log"
  keep_wheel "$BUILD_DIR/wheel" "$target"
  rm -rf -- "$BUILD_DIR"
}

# Moves the wheel in folder $1 to $2.
keep_wheel() {
  WHOLE_WHEEL="$(mktemp -d "$CACHE/wheels/.whole.XXXXXX")" # beside its target: the last move is a rename
  cp -- "$1"/*.whl "$WHOLE_WHEEL/"
  rm -rf -- "$2"
  mv -- "$WHOLE_WHEEL" "$2"
  WHOLE_WHEEL=''
}

# Takes the wheel that PELK_MM_MMCV_WHEELS holds for this Python, where its operators import with this torch.
fetch_mmcv() {
  local target="$1" log="$CACHE/logs/mmcv-fetch.log" place="$PELK_MM_MMCV_WHEELS" folder status=0 source
  source=(--no-index --find-links "$place")
  [[ "${place%/}" != *://*/simple ]] || source=(--index-url "$place")
  folder="$(mktemp -d "${TMPDIR:-/tmp}/pelk_mm.XXXXXX")"
  "$VENV/bin/python" -m pip download --disable-pip-version-check --retries 2 --timeout 20 --no-deps --no-cache-dir \
    --only-binary "$(mmcv_name)" "${source[@]}" -d "$folder" "$(mmcv_pin)" >"$log" 2>&1 || status=$?
  if ((status != 0)); then
    rm -rf -- "$folder"
    ! is_network_failure "$log" || explain_failure "looking for mmcv's wheel in PELK_MM_MMCV_WHEELS" "$log"
    say "PELK_MM_MMCV_WHEELS=$(without_password "$place") holds no wheel of $(mmcv_name) $(mmcv_version) for this Python"
    return 1
  fi
  keep_wheel "$folder" "$target"
  rm -rf -- "$folder"
  if ! try_wheel "$target"; then
    rm -rf -- "$target"
    say "the wheel of PELK_MM_MMCV_WHEELS does not fit: $REASON"
    return 1
  fi
}

# Installs the wheel kept in folder $1; where its operators do not import, fails, and REASON says why.
try_wheel() {
  local wheels=("$1"/*.whl) log="$CACHE/logs/mmcv-install.log"
  "$VENV/bin/uv" pip install --python "$VENV/bin/python" --no-deps --reinstall "${wheels[0]}" >"$log" 2>&1 ||
    explain_failure "installing mmcv's wheel" "$log"
  "$VENV/bin/python" "$CHECK" --only mmcv.ops >"$log" 2>&1 || {
    REASON="$(sed -n 's/^error: .*python: //p' "$log")"
    return 1
  }
}

# In an environment of its own, without torch, mmcv's build makes a wheel of Python files only.
install_mmcv_without_operators() {
  local log="$CACHE/logs/mmcv-install.log"
  say "installing mmcv without its operators: for detectors and the test suite, bash tools/setup.sh adds them"
  "$VENV/bin/uv" pip install --python "$VENV/bin/python" --no-deps --reinstall --no-binary "$(mmcv_name)" \
    "$(mmcv_pin)" >"$log" 2>&1 || explain_failure 'installing mmcv without its operators' "$log"
}

install_mmcv() {
  local key target
  key="$("$VENV/bin/python" "$CHECK" --operators-key)"
  target="$CACHE/wheels/mmcv$(mmcv_version)-$key"
  if compgen -G "$target/*.whl" >/dev/null; then
    say "installing the kept wheel of mmcv's operators"
  elif [[ -n "${PELK_MM_MMCV_WHEELS:-}" ]] && fetch_mmcv "$target"; then
    say "took mmcv's operators from PELK_MM_MMCV_WHEELS"
    return
  elif [[ -n "$WITHOUT_OPERATORS" ]]; then
    install_mmcv_without_operators
    return
  else
    build_mmcv "$target" "$key"
  fi
  try_wheel "$target" || {
    rm -rf -- "$target"
    die "the wheel kept in $target does not import ($REASON) and was removed:" \
      "run $SCRIPT again to build it again"
  }
}

# shellcheck shell=bash
# Part of tools/setup.sh: mmcv's operators, built once for each Python, torch and CUDA version.

mmcv_version() { sed -n 's/^onedl-mmcv==//p' "$ROOT/requirements/mmcv.txt"; }

has_wheel_for() {
  local python_tag
  python_tag="cp$(version_of "$1" | tr -d .)"
  compgen -G "$CACHE/wheels/mmcv$(mmcv_version)-$python_tag-*/*.whl" >/dev/null
}

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
    --no-binary onedl-mmcv --retries 2 --timeout 20 -w "$BUILD_DIR/wheel" "onedl-mmcv==$(mmcv_version)" \
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
  WHOLE_WHEEL="$(mktemp -d "$CACHE/wheels/.whole.XXXXXX")" # beside its target: the last move is a rename
  cp -- "$BUILD_DIR"/wheel/*.whl "$WHOLE_WHEEL/"
  rm -rf -- "$target" "$BUILD_DIR"
  mv -- "$WHOLE_WHEEL" "$target"
  WHOLE_WHEEL=''
}

install_mmcv() {
  local key="$1" target wheels log="$CACHE/logs/mmcv-install.log"
  target="$CACHE/wheels/mmcv$(mmcv_version)-$key"
  compgen -G "$target/*.whl" >/dev/null || build_mmcv "$target" "$key"
  wheels=("$target"/*.whl)
  "$VENV/bin/uv" pip install --python "$VENV/bin/python" --no-deps --reinstall "${wheels[0]}" >"$log" 2>&1 ||
    explain_failure "installing mmcv's wheel" "$log"
  "$VENV/bin/python" "$CHECK" --only mmcv.ops >"$log" 2>&1 || {
    rm -rf -- "$target"
    die "the wheel kept in $target does not import ($(sed -n 's/^error: .*python: //p' "$log")) and was removed:" \
      "run tools/setup.sh again to build it anew"
  }
}

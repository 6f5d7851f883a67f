# shellcheck shell=bash
# Part of tools/setup.sh and tools/test_stack.sh: what a machine must have, asked before anything is downloaded, and one
# line for each failure.

check_compiler() {
  local compiler include version
  read -ra compiler <<<"${CXX:-c++}"
  command -v "${compiler[0]}" >/dev/null ||
    die "no C++ compiler (${compiler[0]}), and mmcv's operators are built from source: install one" \
      "(Debian, Ubuntu: apt-get install g++; conda: conda install cxx-compiler), or name one in CXX"
  version="$(version_of "$1")"
  include="$("$1" -c 'import sysconfig; print(sysconfig.get_path("include"))')"
  [[ -f "$include/Python.h" ]] ||
    die "no Python headers ($include/Python.h), and mmcv's operators are built from source: install them" \
      "(Debian, Ubuntu: apt-get install python$version-dev), or name another Python in PYTHON"
  printf '#include <string_view>\nint main() { return 0; }\n' |
    "${compiler[@]}" -std=c++17 -x c++ -fsyntax-only - 2>/dev/null ||
    die "the C++ compiler ${compiler[*]} does not compile C++17: install g++ 9 or later, or name one in CXX"
}

existing_parent() {
  local folder="$1"
  while [[ ! -e "$folder" ]]; do folder="$(dirname -- "$folder")"; done
  printf '%s\n' "$folder"
}
mount_of() { df -Pk "$(existing_parent "$1")" | awk 'NR == 2 { print $NF }'; }
free_mb() { df -Pk "$(existing_parent "$1")" | awk 'NR == 2 { print int($4 / 1024) }'; }

# The stack takes 5.6 GB in uv's cache; the environment then costs nothing more where hard links reach it. Building
# mmcv takes half a GB of temporary files.
check_disk() {
  local uv_cache="${UV_CACHE_DIR:-$USER_CACHE/uv}" torch_info stack=6500 i j total free
  local folders needs
  torch_info="torch-$(sed -n 's/^torch==\([^ ;]*\).*/\1/p' "$LOCK").dist-info"
  folders=("$uv_cache" "$VENV" "${TMPDIR:-/tmp}")
  needs=("$stack" "$stack" 1000)
  if compgen -G "$VENV/lib/python*/site-packages/$torch_info" >/dev/null; then
    needs[0]=300 needs[1]=300
  elif compgen -G "$uv_cache/archive-v*/*/$torch_info" >/dev/null; then
    needs[0]=300
  fi
  [[ "$(mount_of "$uv_cache")" != "$(mount_of "$VENV")" ]] || needs[1]=300
  must_build "$1" || needs[2]=100
  for i in 0 1 2; do
    total=0
    for j in 0 1 2; do
      [[ "$(mount_of "${folders[i]}")" != "$(mount_of "${folders[j]}")" ]] || total=$((total + needs[j]))
    done
    free="$(free_mb "${folders[i]}")"
    ((free >= total)) ||
      die "too little disk space on $(mount_of "${folders[i]}"): $((free / 1024)) GB free," \
        "about $(((total + 1023) / 1024)) GB needed: free some," \
        "or point UV_CACHE_DIR, PELK_MM_VENV and TMPDIR at a larger disk"
  done
}

without_password() { sed 's#//[^/@]*@#//#' <<<"$1"; }
is_network_failure() {
  grep -qiE 'failed to fetch|error sending request|dns error|connection|timed out|name resolution' "$1"
}

# Ends with the one line that fits a failed step's log.
explain_failure() {
  local step="$1" log="$2" index
  index="$(without_password "${PIP_INDEX_URL:-}")"
  if grep -qiE 'no space left|disk quota exceeded' "$log"; then
    die "the disk ran full while $step: free some space, or point UV_CACHE_DIR, PELK_MM_VENV and TMPDIR at a larger" \
      "disk, and run $SCRIPT again (log: $log)"
  fi
  if is_network_failure "$log"; then
    die "no network while $step: cannot reach the package index${index:+ $index}; check the connection" \
      "or proxy (HTTPS_PROXY), or name a mirror in PIP_INDEX_URL, and run $SCRIPT again (log: $log)"
  fi
  tail -n 15 "$log" >&2
  die "failed while $step: mend what the last lines above name and run $SCRIPT again (whole log: $log)"
}

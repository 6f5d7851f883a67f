#!/usr/bin/env bash
# Evaluate on several GPUs: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
# Several machines: NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 PORT=29500 tools/dist_test.sh CONFIG CHECKPOINT GPUS
set -euo pipefail
# shellcheck source=tools/_launch.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_launch.sh"
# shellcheck source=tools/_dist.sh
source "$ROOT/tools/_dist.sh"
[[ $# -ge 3 ]] || die "usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]"
launch "$3" test.py "$1" "$2" "${@:4}"

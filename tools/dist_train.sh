#!/usr/bin/env bash
# Train on several GPUs: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# Several machines: NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 PORT=29500 tools/dist_train.sh CONFIG GPUS
set -euo pipefail
# shellcheck source=tools/_launch.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_launch.sh"
# shellcheck source=tools/_dist.sh
source "$ROOT/tools/_dist.sh"
[[ $# -ge 2 ]] || die "usage: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]"
launch "$2" train.py "$1" "${@:3}"

#!/usr/bin/env bash
# Train under Slurm: [GPUS=16 GPUS_PER_NODE=8] tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of train.py]
set -euo pipefail
# shellcheck source=tools/_launch.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_launch.sh"
# shellcheck source=tools/_slurm.sh
source "$ROOT/tools/_slurm.sh"
[[ $# -ge 3 ]] || die "usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]"
submit "$1" "$2" train.py "$3" "${@:4}"

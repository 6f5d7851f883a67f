#!/usr/bin/env bash
# Evaluate under Slurm: [GPUS=8] tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]
set -euo pipefail
# shellcheck source=tools/_launch.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_launch.sh"
# shellcheck source=tools/_slurm.sh
source "$ROOT/tools/_slurm.sh"
[[ $# -ge 4 ]] || die "usage: tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]"
submit "$1" "$2" test.py "$3" "${@:4}"

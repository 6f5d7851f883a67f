#!/usr/bin/env bash
# Sets up and runs the whole test suite; arguments go to pytest: bash tools/run_tests.sh tests/ops -x
set -euo pipefail
unset CDPATH
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
PYTHON="$(bash tools/setup.sh --print-python)"
exec "$PYTHON" -m pytest "$@"

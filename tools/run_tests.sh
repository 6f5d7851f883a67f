#!/usr/bin/env bash
# Sets up and runs the whole test suite, a process on each core. Arguments go to pytest: tools/run_tests.sh tests/ops -x;
# in one process, for a debugger say: tools/run_tests.sh -n 0 tests/ops.
set -euo pipefail
unset CDPATH
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
PYTHON="$(bash tools/setup.sh --print-python)"
exec "$PYTHON" -m pytest -n auto --dist worksteal "$@"

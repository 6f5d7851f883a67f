#!/usr/bin/env bash
# Sets up and checks style, format and types.
set -euo pipefail
unset CDPATH
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
PYTHON="$(bash tools/setup.sh --print-python)"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy

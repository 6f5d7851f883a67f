#!/usr/bin/env bash
# Sets up and checks style, format, types and which room imports which.
set -euo pipefail
unset CDPATH
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
PYTHON="$(bash tools/setup.sh --without-operators --print-python)"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
if "$PYTHON" -c 'import importlinter' 2>/dev/null; then
  "$PYTHON" -c 'import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())'
else
  echo 'import-linter is not installed (it has no build for Python 3.10): imports are not checked' >&2
fi

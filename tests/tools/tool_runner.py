"""Run the files of tools/ inside the test process: a new one costs seconds of imports."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def load_tool(name):
    """Import a file of tools/, which is no package."""
    path = ROOT / 'tools' / name
    spec = importlib.util.spec_from_file_location(f'pelk_mm_tool_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    sys.path.insert(0, str(ROOT / 'tools'))  # as for a tool that is run
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def run(name, *args):
    """Run a tool in this process as if in one of its own; return its exit status."""
    from forked import forget_earlier_runs

    from pelk_mm.utils.cli import run_tool

    forget_earlier_runs()
    main = load_tool(name).main
    return run_tool(lambda: main([str(arg) for arg in args]))

"""Save a config's model with the weights it would start training from, as a baseline for tools/test.py."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401

from pelk_mm.analysis.scores.untrained import save_untrained
from pelk_mm.engine.config import load_config
from pelk_mm.utils.cli import run_tool
from pelk_mm.utils.errors import naming
from pelk_mm.utils.files import claim_file


def main(argv: list[str]) -> None:
    """Save the model that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('out', help='checkpoint to write')
    parser.add_argument('--seed', type=int, default=0, help='of the initialisation (default: %(default)s)')
    parser.add_argument('--overwrite', action='store_true', help='replace the file if it exists')
    args = parser.parse_args(argv)
    out = claim_file(args.out, args.overwrite, [args.config])
    cfg = load_config(args.config)
    with naming(f'the model of {args.config}'):
        save_untrained(cfg, out, args.seed)


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

"""Convert a checkpoint to its deployed form: any classifier, segmentor or detector whose backbone has one."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401

from pelk_mm.converters.reparameterize import reparameterize
from pelk_mm.utils.cli import add_common_arguments, run_tool


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('out', help='file to write')
    parser.add_argument('--overwrite', action='store_true', help='replace the file if it exists')
    add_common_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Convert as the command line says."""
    args = parse_args(argv)
    done = reparameterize(**vars(args))
    before, after = done.parameters
    print(f'switched: {", ".join(done.switched)}')
    print(f'backbone outputs agree: largest difference {done.difference:.2e} at outputs up to {done.scale:.2e}')
    print(f'parameters: {before:,} -> {after:,}')
    print(f'written: {args.out}')


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

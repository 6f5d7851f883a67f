"""Convert an authors' checkpoint to a classifier of this package, or of mmpretrain where the network is its own."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401

from pelk_mm.converters.convert_weights import ENTRIES, convert_weights, describe
from pelk_mm.converters.families import FAMILIES
from pelk_mm.utils.cli import KeyValueAction, run_tool


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('family', help=f'whose layout the checkpoint has: {", ".join(FAMILIES)}')
    parser.add_argument('checkpoint', help="the authors' checkpoint file")
    parser.add_argument('out', help='file to write')
    parser.add_argument('--arch', help='architecture that the file must hold (default: what its shapes show)')
    parser.add_argument(
        '--backbone-options',
        nargs='+',
        action=KeyValueAction,
        metavar='KEY=VALUE',
        help='arguments of the backbone that shapes do not show, where they are not its defaults',
    )
    parser.add_argument('--entry', choices=ENTRIES, help='entry of the file to read (default: the first it has)')
    parser.add_argument('--ignore', metavar='REGEX', help='keys of the file that may be left out, matched as a whole')
    parser.add_argument('--overwrite', action='store_true', help='replace the file if it exists')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle the checkpoint without restriction; it can then run any code',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Convert as the command line says."""
    args = parse_args(argv)
    done = convert_weights(**vars(args))
    print('\n'.join(describe(done)))
    print(f'written: {args.out}')


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

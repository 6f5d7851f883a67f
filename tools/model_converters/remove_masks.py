"""Remove the masks of dynamic sparse training from a checkpoint; the weights they held at zero are zero in it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401

from pelk_mm.converters.remove_masks import remove_masks
from pelk_mm.utils.cli import run_tool


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='checkpoint file with masks')
    parser.add_argument('out', help='file to write')
    parser.add_argument(
        '--weights-only',
        action='store_true',
        help='also leave out optimizer, schedules, log history and the weights that are not evaluated (with EMA)',
    )
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
    done = remove_masks(**vars(args))
    share = done.zeros / done.total if done.total else 0.0
    print(f'masks of {done.layers} layers removed: {done.zeros:,} of {done.total:,} weights are zero ({share:.1%})')
    print(f'left out: {", ".join(done.dropped)}')
    print(f'written: {args.out}')


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

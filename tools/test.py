"""Evaluate a classifier, a segmentor or a detector: the config decides which."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import early_signals  # noqa: F401

from pelk_mm.apis.test import evaluate
from pelk_mm.utils.cli import add_common_arguments, run_tool
from pelk_mm.utils.processes import launcher_of, settle_local_rank


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, deployed ones included')
    parser.add_argument('--work-dir', help='folder for logs (default: ./work_dirs/<config name>)')
    parser.add_argument(
        '--out', help='dump predictions: a folder of PNG label maps for segmentors, a .pkl file otherwise'
    )
    parser.add_argument('--show', action='store_true', help='paint predictions in a window')
    parser.add_argument('--show-dir', help='paint predictions into this folder')
    parser.add_argument('--overwrite', action='store_true', help='replace what --out and --show-dir name')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument('--deploy', action='store_true', help='switch the model to its deployed form first')
    add_common_arguments(parser, launcher=True)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Evaluate as the command line says."""
    args = vars(parse_args(argv))
    settle_local_rank(args['launcher'], args.pop('local_rank'))
    evaluate(**args)


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:]), launcher_of(sys.argv)))

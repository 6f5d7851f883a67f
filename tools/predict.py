"""Predict an image or a folder of images: overlays and raw label maps, boxes or classes, as the config's task is."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import early_signals  # noqa: F401

from pelk_mm.apis.predict import predict
from pelk_mm.apis.prediction_page import page_path
from pelk_mm.utils.cli import add_common_arguments, run_tool


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, deployed ones included')
    parser.add_argument('input', help='an image, or a folder of images')
    parser.add_argument('--out-dir', required=True, help='folder for the results')
    parser.add_argument('--device', help='cpu, cuda or cuda:N (default: the first GPU, else cpu)')
    parser.add_argument('--opacity', type=float, default=0.5, help='of painted labels, 0 to 1 (default: 0.5)')
    parser.add_argument('--score-thr', type=float, default=0.3, help='leave out boxes below this score (default: 0.3)')
    parser.add_argument('--deploy', action='store_true', help='switch the model to its deployed form first')
    parser.add_argument('--overwrite', action='store_true', help='replace results of the same names')
    add_common_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Predict as the command line says; 1 if an image had to be skipped."""
    args = parse_args(argv)
    skipped = done = 0
    with closing(predict(**vars(args))) as results:  # an interrupted run, too, writes its page before it ends
        for result in results:
            if result.error is None:
                done += 1
                print(f'{result.image}: {result.summary}')
            else:
                skipped += 1
                print(f'skipped {result.image}: {result.error}', file=sys.stderr)
    page = page_path(args.input, args.out_dir)
    print(f'{done} image(s) predicted, results in {args.out_dir}' + (f', to look through: {page}' if page else ''))
    if skipped:
        print(f'error: {skipped} of {done + skipped} image(s) could not be read and were skipped', file=sys.stderr)
    return 1 if skipped else 0


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

"""Draw parameters against kernel size for dense, stripe and peripheral kernels, with the numbers as CSV beside it.

python tools/analysis_tools/plot_parameters.py --out parameters.png
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401

from pelk_mm.analysis.figures.charts import csv_text, png_bytes
from pelk_mm.analysis.figures.parameter_curve import LABELS, built_parameters, draw_parameter_curve, parameter_curve
from pelk_mm.utils.cli import run_tool
from pelk_mm.utils.errors import ConfigError
from pelk_mm.utils.files import claim_files, write_files


def main(argv: list[str]) -> None:
    """Draw the curve that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', required=True, help='PNG to write; the numbers go beside it, as .csv')
    parser.add_argument('--overwrite', action='store_true', help='replace the files if they exist')
    parser.add_argument('--arch', default='tiny', help='ConvNeXt architecture (default: %(default)s)')
    parser.add_argument(
        '--kernel-sizes', type=int, nargs=2, default=(7, 151), metavar=('MIN', 'MAX'), help='odd (default: 7 151)'
    )
    parser.add_argument('--central-size', type=int, default=5, help='centre of the sharing grid (default: %(default)s)')
    parser.add_argument('--stripe-width', type=int, default=5, help='short side of a stripe (default: %(default)s)')
    parser.add_argument('--conv-ratio', type=float, default=1.0, help='share of channels convolved, of all three')
    args = parser.parse_args(argv)
    png, table = claim_files(args.out, ('.csv',), args.overwrite)
    low, high = args.kernel_sizes
    options = {name: getattr(args, name) for name in ('central_size', 'stripe_width', 'conv_ratio')}
    try:
        rows = parameter_curve(range(low, high + 1, 2), args.arch, **options)
        by_size = {row['kernel_size']: row for row in rows}
        built = [
            (mixer, size, built_parameters(mixer, size, args.arch, **options))
            for size in sorted({low, high} | by_size.keys() & {51, 101})
            for mixer in LABELS
        ]
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error
    share = 'all channels' if args.conv_ratio == 1 else f'{args.conv_ratio:.4g} of the channels'
    title = f'ConvNeXt-{args.arch}, kernels of one size in every block, {share} convolved'
    write_files({png: png_bytes(draw_parameter_curve(rows, built, title)), table: csv_text(rows)})
    print(f'{"K":>4}' + ''.join(f'{mixer:>12}' for mixer in LABELS) + '   (backbone, without h)')
    for size in sorted({size for _, size, _ in built}):
        counts = (by_size[size][f'{mixer}_backbone'] / 1e6 for mixer in LABELS)
        print(f'{size:>4}' + ''.join(f'{count:>11.2f}M' for count in counts))
    print(f'written: {png}, {table}')


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

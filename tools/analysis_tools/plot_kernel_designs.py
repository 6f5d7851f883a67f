"""Draw a dense kernel, two stripes and a peripheral kernel, a cell a parameter, with the numbers as CSV beside it.

python tools/analysis_tools/plot_kernel_designs.py --out kernel_designs.png
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401

from pelk_mm.analysis.figures.charts import csv_text, png_bytes
from pelk_mm.analysis.figures.kernel_designs import draw_kernel_designs, kernel_designs
from pelk_mm.utils.cli import run_tool
from pelk_mm.utils.errors import ConfigError
from pelk_mm.utils.files import claim_files, write_files


def main(argv: list[str]) -> None:
    """Draw the designs at the sizes that the command line gives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', required=True, help='PNG to write; the numbers go beside it, as .csv')
    parser.add_argument('--overwrite', action='store_true', help='replace the files if they exist')
    parser.add_argument('--kernel-size', type=int, default=51, help='K, odd (default: %(default)s)')
    parser.add_argument('--central-size', type=int, default=5, help='centre of the sharing grid (default: %(default)s)')
    parser.add_argument('--stripe-width', type=int, default=5, help='short side of a stripe (default: %(default)s)')
    args = parser.parse_args(argv)
    png, table = claim_files(args.out, ('.csv',), args.overwrite)
    try:
        designs = kernel_designs(args.kernel_size, args.central_size, args.stripe_width)
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error
    rows = [design.row() for design in designs]
    write_files({png: png_bytes(draw_kernel_designs(designs)), table: csv_text(rows)})
    for row in rows:
        print(f'{row["design"]:>12} {row["kernels"]}: {row["parameters"]} parameters a channel')
    print(f'written: {png}, {table}')


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

"""Draw the multiply-adds of models by component, with the numbers as CSV beside it.

python tools/analysis_tools/plot_macs.py --out macs.png                     # PeLK-T, S, B and B-101 backbones
python tools/analysis_tools/plot_macs.py CONFIG ... --shape 224 224 --out macs.png
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401

from pelk_mm.analysis.counting.count_config import count_config
from pelk_mm.analysis.figures.charts import csv_text, png_bytes
from pelk_mm.analysis.figures.component_chart import component_rows, draw_components
from pelk_mm.engine.config import load_config
from pelk_mm.utils.cli import run_tool
from pelk_mm.utils.errors import ConfigError
from pelk_mm.utils.files import claim_files, write_files

PELK = {f'PeLK-{size.upper().replace("_", "-")}': f'upernet_pelk_{size}_ade20k.py' for size in ('t', 's', 'b', 'b_101')}


def main(argv: list[str]) -> None:
    """Count and draw what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', help="config files; by default UperNet's with PeLK-T, S, B and B-101")
    parser.add_argument('--out', required=True, help='PNG to write; the numbers go beside it, as .csv')
    parser.add_argument('--overwrite', action='store_true', help='replace the files if they exist')
    parser.add_argument(
        '--shape', type=int, nargs=2, default=(512, 2048), metavar=('H', 'W'), help='of the image (default: 512 2048)'
    )
    parser.add_argument(
        '--sparsity', type=float, metavar='S', help='count as the paper does, this share of the weights being zero'
    )
    parser.add_argument('--deploy', action='store_true', help='count the deployed form, branches and norms merged')
    parser.add_argument('--head', action='store_true', help='show neck and heads too, not the backbone alone')
    args = parser.parse_args(argv)
    png, table = claim_files(args.out, ('.csv',), args.overwrite)
    configs = {Path(config).stem: config for config in args.configs}
    if len(configs) < len(args.configs):
        raise ConfigError('the configs must have different file names: the bars are named after them')
    configs = configs or {name: str(ROOT / 'configs' / config) for name, config in PELK.items()}
    counts = {
        name: count_config(load_config(config), args.shape, args.sparsity, args.deploy).macs_by_component
        for name, config in configs.items()
    }
    try:
        rows = component_rows(counts, args.head)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    how = 'as built' if args.sparsity is None else f"the paper's convention at sparsity {args.sparsity:g}"
    what = 'whole models' if args.head else 'backbones'
    title = f'{what} at {args.shape[0]} x {args.shape[1]}, {how}{", deployed" if args.deploy else ""}'
    write_files({png: png_bytes(draw_components(rows, title)), table: csv_text(rows)})
    for row in rows:
        parts = (f'{key} {row[key] / row["total"]:.2%}' for key in row if key not in ('model', 'total'))
        print(f'{row["model"]}: {row["total"] / 1e9:.1f} G ({", ".join(parts)})')
    print(f'written: {png}, {table}')


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

"""Count parameters and multiply-adds of a config's model: any classifier, segmentor or detector.

Nothing is computed and no data or checkpoint is read. Without --sparsity the model counts as it is. With it, by the
convention of the paper (docs/paper/published_rows.md): 0.4 gives the rows that the paper prints.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401

from pelk_mm.analysis.counting.complexity import Complexity
from pelk_mm.analysis.counting.count_config import count_config
from pelk_mm.engine.config import load_config
from pelk_mm.utils.cli import KeyValueAction, run_tool
from pelk_mm.utils.files import claim_file, write_files


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--shape', type=int, nargs=2, required=True, metavar=('H', 'W'), help='size of the image')
    parser.add_argument(
        '--sparsity', type=float, metavar='S', help='count as the paper does, this share of the weights being zero'
    )
    parser.add_argument('--deploy', action='store_true', help='count the deployed form, branches and norms merged')
    parser.add_argument('--json', metavar='FILE', help='write the counts here too')
    parser.add_argument('--overwrite', action='store_true', help='replace the file if it exists')
    parser.add_argument(
        '--cfg-options', nargs='+', action=KeyValueAction, metavar='KEY=VALUE', help='settings to change in the config'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Count, print, and write where asked."""
    args = parse_args(argv)
    if args.json:
        claim_file(args.json, args.overwrite, [args.config])
    cfg = load_config(args.config, args.cfg_options)
    counted = count_config(cfg, args.shape, args.sparsity, args.deploy)
    how = 'as built' if args.sparsity is None else f"by the paper's convention at sparsity {args.sparsity:g}"
    print(f'{args.config}, one image of {args.shape[0]}x{args.shape[1]} (H x W), {how}', end='')
    print(', deployed' if args.deploy else '')
    print_counts(counted)
    if args.json:
        report = {
            **counted.as_dict(),
            'config': args.config,
            'shape': args.shape,
            'sparsity': args.sparsity,
            'deploy': args.deploy,
        }
        write_files({Path(args.json): json.dumps(report, indent=2) + '\n'})


def print_counts(counted: Complexity) -> None:
    """One line a figure."""
    print(f'parameters {counted.params:>22,}')
    print(f'  nonzero  {counted.params_nonzero:>22,}')
    print(f'  h        {counted.params_pos_embed:>22,}')
    print(f'multiply-adds {counted.macs:>19,}')
    for component, macs in counted.macs_by_component.items():
        print(f'  {component:<12}{macs:>19,}  {macs / max(counted.macs, 1):.1%}')


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

"""Put PeLK into the methods of the installed toolboxes, changing the backbone only, and see which train and predict.

For each method (a folder of configs that mmdet, mmseg or mmpretrain ships) one config is tried with its own backbone,
with mmpretrain's ConvNeXt and with PeLK: two made-up images, losses, backward pass, prediction, on a CPU.

    python tools/analysis_tools/existing_methods.py --methods retinanet pspnet
    python tools/analysis_tools/existing_methods.py --distributed 24 --page docs/results/existing_methods.md
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401
import torch

from pelk_mm.analysis.methods.children import Limits
from pelk_mm.analysis.methods.configs import TOOLBOXES, find_methods, import_toolbox, installed_toolboxes
from pelk_mm.analysis.methods.distributed import choose, try_distributed
from pelk_mm.analysis.methods.report import distributed_line, line, summary, tables
from pelk_mm.analysis.methods.verdicts import OURS, try_methods
from pelk_mm.benchmarks.machine import describe_machine
from pelk_mm.benchmarks.tables import describe
from pelk_mm.utils.cli import run_tool
from pelk_mm.utils.errors import ConfigError
from pelk_mm.utils.files import around_table, claim_file, write_files, write_table


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--toolbox', nargs='+', metavar='NAME', help=f'of {", ".join(TOOLBOXES)}; default: installed')
    parser.add_argument('--methods', nargs='+', metavar='NAME', help='some methods; not with --page, which lists all')
    parser.add_argument('--distributed', type=int, default=0, metavar='N', help='train N with PeLK in two processes')
    parser.add_argument('--timeout', type=float, default=120.0, metavar='SECONDS', help='of a trial; default: 120')
    parser.add_argument('--jobs', type=int, default=1, help='trials at once; default: 1')
    parser.add_argument('--json', metavar='FILE', help='write every row here')
    parser.add_argument('--overwrite', action='store_true', help='replace that file if it exists')
    parser.add_argument('--page', type=Path, help='replace the table on this page: docs/results/existing_methods.md')
    args = parser.parse_args(argv)
    for name, least in {'distributed': 0, 'jobs': 1}.items():
        if getattr(args, name) < least:
            raise ConfigError(f'--{name} must be at least {least}, but got {getattr(args, name)}')
    if not args.timeout > 0:
        raise ConfigError(f'--timeout must be positive, but got {args.timeout}')
    if args.methods and args.page is not None:
        raise ConfigError('--methods leaves methods out and --page lists all: pass one of them')
    return args


def main(argv: Sequence[str]) -> int:
    """Try the methods, print a line for each, write where asked; 1 when one fails with PeLK only."""
    args = parse_args(argv)
    if args.json:
        claim_file(args.json, args.overwrite)
    if args.page is not None:
        around_table(args.page)
    toolboxes = choose_toolboxes(args.toolbox)
    methods = find_methods(toolboxes, args.methods)
    torch.set_num_threads(1)  # processes are forked from this one
    versions = {name: import_toolbox(name).__version__ for name in toolboxes}
    limits = Limits(seconds=args.timeout)
    rows = try_methods(methods, limits, args.jobs, lambda row: print(line(row), flush=True))
    distributed = try_distributed(
        choose(rows, args.distributed), methods, limits, lambda row: print(distributed_line(row), flush=True)
    )
    print('\n'.join(summary(rows, distributed)))
    machine = describe_machine(torch.device('cpu')) | versions
    if args.json:
        report = {
            'machine': machine,
            'rows': [row.as_dict() for row in rows],
            'distributed': [vars(row) for row in distributed],
        }
        write_files({Path(args.json): json.dumps(report, indent=2) + '\n'})
    if args.page is not None:
        command = shlex.join(['python', 'tools/analysis_tools/existing_methods.py', *argv])
        write_table(args.page, f'```bash\n{command}\n```\n\n{describe(machine)}.\n\n{tables(rows, distributed)}')
    return int(any(row.verdict == OURS for row in rows))


def choose_toolboxes(names: Sequence[str] | None) -> list[str]:
    """The toolboxes asked for, or all that are installed.

    Raises:
        ConfigError: One is unknown or not installed, or there is none.
    """
    installed = installed_toolboxes()
    for name in names or ():
        if name not in TOOLBOXES:
            raise ConfigError(f'--toolbox must be of {", ".join(TOOLBOXES)}, but got {name!r}')
        if name not in installed:
            raise ConfigError(f'--toolbox {name} is not installed; there are {", ".join(installed) or "none"}')
    if not installed:
        raise ConfigError(f'none of {", ".join(TOOLBOXES)} is installed')
    return list(dict.fromkeys(names)) if names else installed


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

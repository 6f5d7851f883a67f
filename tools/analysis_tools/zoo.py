"""Count and time every network of this package, and show it beside what its authors publish.

python tools/analysis_tools/zoo.py --page docs/nets/zoo.md
python tools/analysis_tools/zoo.py --choice --page docs/nets/choosing.md
python tools/analysis_tools/zoo.py --only SW-T UniRepLKNet-T --device cuda --batch 64
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401

from pelk_mm.benchmarks.harness import GateError
from pelk_mm.benchmarks.machine import check_device, describe_machine
from pelk_mm.benchmarks.tables import describe
from pelk_mm.benchmarks.zoo.choice import CHOICES, render_choice, time_choices
from pelk_mm.benchmarks.zoo.measure import choose, count_zoo, time_zoo
from pelk_mm.benchmarks.zoo.table import render_zoo
from pelk_mm.utils.cli import run_tool
from pelk_mm.utils.errors import ConfigError
from pelk_mm.utils.files import around_table, write_table


def main(argv: Sequence[str]) -> int:
    """Print the table and, where asked, put it on its page; 1 when a form was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--page', type=Path, help='replace the table on this page: docs/nets/zoo.md')
    parser.add_argument('--choice', action='store_true', help='nets of one size side by side, with training steps')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--size', type=int, default=224, help='pixels a side')
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--repeats', type=int, default=5, help='samples of each form')
    parser.add_argument('--train-batch', type=int, default=2, help='images of a training step, with --choice')
    parser.add_argument('--only', nargs='+', metavar='NAME', help='some networks; not with --page, which lists all')
    args = parser.parse_args(argv)
    if args.only and args.page is not None:
        raise ConfigError('--only leaves networks out and --page lists all: pass one of them')
    if args.page is not None:
        around_table(args.page)
    entries = choose([choice.name for choice in CHOICES] if args.choice and not args.only else args.only)
    if args.choice and (others := [entry.name for entry in entries if entry.name not in {c.name for c in CHOICES}]):
        raise ConfigError(f'--choice has no {", ".join(others)}: --only must be some of its nets')
    try:
        device = check_device(args.device)
        counts, skipped = count_zoo(ROOT / 'configs', entries, (args.size, args.size))
        common = {'size': args.size, 'batch': args.batch, 'device': device, 'repeats': args.repeats}
        counted = [entry for entry in entries if entry.name in counts]
        if args.choice:
            names = [entry.name for entry in counted]
            timed = time_choices(ROOT / 'configs', names, train_batch=args.train_batch, **common)
        else:
            timed = time_zoo(
                ROOT / 'configs',
                counted,
                progress=lambda line: print(line, file=sys.stderr, flush=True),
                **common,
            )
    except GateError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except ValueError as error:
        raise ConfigError(str(error)) from error
    timed.skipped = skipped | timed.skipped
    command = shlex.join(['python', 'tools/analysis_tools/zoo.py', *argv])
    shape = f'batches of {args.batch} images of {args.size} x {args.size}, float32'
    if args.choice:
        shape = f'{shape}, {args.train_batch} of them a training step'
        rendered = render_choice(counts, timed, args.batch, args.train_batch)
    else:
        rendered = render_zoo(counts, timed, args.batch)
    table = (
        f'```bash\n{command}\n```\n\n{describe(describe_machine(device))}; {shape}, {args.repeats} samples.\n\n'
        f'{rendered}'
    )
    print(table)
    if args.page is not None:
        write_table(args.page, table)
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

"""Print mean and spread of the final scores of several runs of several nets, as a Markdown table."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401

from pelk_mm.analysis.scores.run_table import run_table
from pelk_mm.utils.cli import run_tool
from pelk_mm.utils.errors import DataError


def main(argv: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'runs', nargs='+', metavar='NAME=DIR[,DIR...]', help='a row: its name and the work directories of its runs'
    )
    parser.add_argument('--metric', default='accuracy/top1', help='what to compare (default: %(default)s)')
    args = parser.parse_args(argv)
    groups = {}
    for run in args.runs:
        name, _, folders = run.partition('=')
        if not name or not folders:
            parser.error(f'expected NAME=DIR[,DIR...], but got {run!r}')
        groups[name] = folders.split(',')
    try:
        print(run_table(groups, args.metric))
    except (FileNotFoundError, ValueError) as error:
        raise DataError(str(error)) from error


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

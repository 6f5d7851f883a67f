"""Count the configs of all rows that the paper prints, and show them beside the paper's figures."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401

from pelk_mm.analysis.counting.published_rows import published_table
from pelk_mm.utils.cli import run_tool
from pelk_mm.utils.files import around_table, write_table


def main(argv: Sequence[str]) -> None:
    """Print the table and, where asked, put it on its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--configs', type=Path, default=ROOT / 'configs', help='folder (default: that of this project)')
    parser.add_argument('--page', type=Path, help='replace the table on this page: docs/paper/published_rows.md')
    args = parser.parse_args(argv)
    if args.page is not None:
        around_table(args.page)
    table = published_table(args.configs)
    print(table)
    if args.page is not None:
        write_table(args.page, table)


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

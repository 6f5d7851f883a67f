"""Convert an authors' checkpoint to a classifier of this package, or of mmpretrain where the network is its own."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401

from pelk_mm.converters.convert_weights import ENTRIES, convert_weights, describe
from pelk_mm.converters.families import FAMILIES
from pelk_mm.hub.fetch import fetch, is_remote
from pelk_mm.hub.published import PUBLISHED, find_published, near_names
from pelk_mm.utils.cli import KeyValueAction, run_tool
from pelk_mm.utils.errors import CheckpointError, ConfigError
from pelk_mm.utils.files import claim_file
from pelk_mm.utils.markdown import markdown


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('family', nargs='?', help=f'whose layout the checkpoint has: {", ".join(FAMILIES)}')
    parser.add_argument(
        'checkpoint', nargs='?', help="the authors' file: a path, an address, hf://OWNER/REPO/FILE or a name of --list"
    )
    parser.add_argument('out', nargs='?', help='file to write')
    parser.add_argument('--list', action='store_true', help="print the authors' published files by name, and stop")
    parser.add_argument('--sha256', help='of the file, or its first digits')
    parser.add_argument('--arch', help='architecture that the file must hold (default: what its shapes show)')
    parser.add_argument(
        '--backbone-options',
        nargs='+',
        action=KeyValueAction,
        metavar='KEY=VALUE',
        help='arguments of the backbone that shapes do not show, where they are not its defaults',
    )
    parser.add_argument('--entry', choices=ENTRIES, help='entry of the file to read (default: the first it has)')
    parser.add_argument('--ignore', metavar='REGEX', help='keys of the file that may be left out, matched as a whole')
    parser.add_argument('--overwrite', action='store_true', help='replace the file if it exists')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle the checkpoint without restriction; it can then run any code',
    )
    args = parser.parse_args(argv)
    if not args.list and args.out is None:
        parser.error('FAMILY, CHECKPOINT and OUT are needed, or --list')
    return args


def list_published() -> str:
    """The table of :data:`PUBLISHED`."""
    rows = [
        [name, entry.family, entry.licence, entry.source or f'by hand, from {entry.page}']
        for name, entry in PUBLISHED.items()
    ]
    return markdown(['name', 'family', 'licence', 'file'], rows)


def main(argv: Sequence[str]) -> None:
    """Convert as the command line says."""
    args = parse_args(argv)
    if args.list:
        print(list_published())
        return
    if args.family not in FAMILIES:  # before a download
        raise ConfigError(f'family must be one of {", ".join(FAMILIES)}, but got {args.family!r}')
    published = find_published(args.checkpoint)
    source = args.checkpoint if published is None else published.source
    if published is None and not is_remote(source) and not Path(source).exists() and Path(source).name == source:
        raise CheckpointError(f'checkpoint {source} does not exist, as a file or as a name; near: {near_names(source)}')
    if is_remote(source):
        claim_file(args.out, args.overwrite)
        source = fetch(source, args.sha256, progress=sys.stderr.isatty())
    elif args.sha256:
        fetch(source, args.sha256)
    options = {key: value for key, value in vars(args).items() if key not in ('list', 'sha256', 'checkpoint')}
    done = convert_weights(checkpoint=source, **options)
    print('\n'.join(describe(done)))
    print(f'written: {args.out}')


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

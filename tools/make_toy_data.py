"""Write made-up scenes of textured shapes in the layout of ADEChallengeData2016, e.g. to data/toy."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import early_signals  # noqa: F401

from pelk_mm.datasets import TOY_CLASSES, ToyDataset, write_toy_dataset
from pelk_mm.utils.cli import run_tool
from pelk_mm.utils.errors import ConfigError, OutputError, SaveError
from pelk_mm.utils.files import claim_folder


def main(argv: list[str]) -> None:
    """Write what the command line asks for."""
    names = ', '.join(f'{name} {ade_id}' for name, ade_id in TOY_CLASSES.items())
    parser = argparse.ArgumentParser(description=__doc__, epilog=f'Classes and their ADE20K ids: {names}; other 0.')
    parser.add_argument('out', help='folder to write to')
    parser.add_argument('--train', type=int, default=200, help='number of training scenes (default: %(default)s)')
    parser.add_argument('--val', type=int, default=40, help='number of held-out scenes (default: %(default)s)')
    parser.add_argument('--size', type=int, default=160, help='height and width in pixels (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument('--overwrite', action='store_true', help='replace a toy data set that lies in OUT')
    args = parser.parse_args(argv)
    try:
        claim_folder(args.out, overwrite=True)  # what lies there is looked at below
        spec = ToyDataset(args.train, args.val, args.size, args.seed)
        write_toy_dataset(args.out, spec, args.overwrite)
    except ValueError as error:
        raise ConfigError(f'--{error}') from error
    except FileExistsError as error:
        raise OutputError(str(error)) from error
    except OSError as error:
        raise SaveError(f'cannot write to {args.out}: {error.strerror}') from error
    print(f'{spec.train} training and {spec.val} validation scenes of {spec.size}x{spec.size} pixels in {args.out}')


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

"""Train a classifier, a segmentor or a detector: the config decides which."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import early_signals  # noqa: F401

from pelk_mm.apis.train import train
from pelk_mm.utils.cli import add_common_arguments, run_tool
from pelk_mm.utils.processes import launcher_of, settle_local_rank


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: ./work_dirs/<config name>)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or, without a value, from the last one in the work directory',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='replace the checkpoints that an earlier run left in the work directory; they are removed when this run '
        'has saved its first one',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (float32 without a GPU)')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate by batch size over base_batch_size'
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument(
        '--tensorboard', action='store_true', help='also write TensorBoard events, below the work directory'
    )
    parser.add_argument(
        '--no-dry-run',
        dest='dry_run',
        action='store_false',
        help='do not try the training step on a batch of two samples before training',
    )
    add_common_arguments(parser, launcher=True)
    return parser.parse_args(argv)


def resume_command(argv: Sequence[str]) -> str:
    """Write the command that goes on after an interruption: the one typed, with ``--resume``."""
    typed = shlex.split(os.environ.get('PELK_MM_COMMAND', '')) or ['python', sys.argv[0], *argv]
    words: list[str] = []
    for i, word in enumerate(typed):
        is_value = i > 0 and typed[i - 1] == '--resume' and not word.startswith('-')
        if word.split('=')[0] not in ('--overwrite', '--resume') and not is_value:
            words.append(word)
    return shlex.join([*words, '--resume'])


def main(argv: Sequence[str]) -> None:
    """Train as the command line says."""
    args = vars(parse_args(argv))
    settle_local_rank(args['launcher'], args.pop('local_rank'))
    train(**args, resume_command=resume_command(argv))


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:]), launcher_of(sys.argv)))

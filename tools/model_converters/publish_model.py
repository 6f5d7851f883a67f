"""Write a checkpoint as a folder to publish: config.json, model.safetensors, a model card and checksums."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401

from pelk_mm.hub.publish import Card, publish_model
from pelk_mm.utils.cli import run_tool


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='of a classifier, trained or converted here')
    parser.add_argument('folder', help='to write; its name is the name on the card')
    parser.add_argument('--config', help='that it was trained by; a converted checkpoint needs none')
    parser.add_argument('--licence', required=True, help='of the weights, by its SPDX name: apache-2.0')
    parser.add_argument('--data', required=True, help='what they were trained on')
    parser.add_argument('--recipe', required=True, help='how: a config, or a sentence')
    parser.add_argument('--scores', nargs='+', default=[], metavar='NAME=VALUE', help='with --command')
    parser.add_argument('--command', default='', help='what printed the scores')
    parser.add_argument('--overwrite', action='store_true', help='replace the files if they exist')
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Publish as the command line says."""
    args = parse_args(argv)
    card = Card(args.licence, args.data, args.recipe, tuple(args.scores), args.command)
    folder = publish_model(args.checkpoint, args.folder, card, args.config, args.overwrite)
    print(f'written and read back: {folder}')


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

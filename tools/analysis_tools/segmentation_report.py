"""Score the label pictures that tools/test.py --out wrote, beside the baselines, and show them next to the truth."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401

from pelk_mm.analysis.scores.segmentation_report import LabelledImages, report
from pelk_mm.engine.config import load_config, task_of
from pelk_mm.preflight.files import check_data
from pelk_mm.utils.cli import KeyValueAction, run_tool
from pelk_mm.utils.errors import (
    ConfigError,
    DataError,
    naming,
)
from pelk_mm.utils.files import atomic_path, claim_file


def main(argv: list[str]) -> None:
    """Print the table and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file; its test_dataloader names the images')
    parser.add_argument('predictions', help='folder that tools/test.py CONFIG CHECKPOINT --out FOLDER wrote')
    parser.add_argument('--untrained', help='such a folder, written by the untrained net (see save_untrained.py)')
    parser.add_argument('--sheet', help='PNG to write: image, truth and prediction side by side')
    parser.add_argument('--overwrite', action='store_true', help='replace the sheet if it exists')
    parser.add_argument('--images', type=int, default=6, help='rows of the sheet (default: %(default)s)')
    parser.add_argument(
        '--cfg-options', nargs='+', action=KeyValueAction, metavar='KEY=VALUE', help='changes to the config'
    )
    args = parser.parse_args(argv)
    cfg = load_config(args.config, args.cfg_options)
    if task_of(cfg) != 'segmentation':
        raise ConfigError(f'config {args.config} is not for segmentation: default_scope={cfg.get("default_scope")!r}')
    if args.images < 1:
        raise ConfigError(f'--images must be at least 1, got {args.images}')
    if args.sheet:
        claim_file(args.sheet, args.overwrite, [args.config])
    check_data(cfg, ('train_dataloader', 'test_dataloader'))
    with naming('the data sets'):
        train = LabelledImages(cfg.train_dataloader.dataset)
        test = LabelledImages(cfg.test_dataloader.dataset)
    try:
        print(report(train, test, args.predictions, args.untrained))
        if args.sheet:
            with atomic_path(args.sheet) as partial:
                test.sheet(args.predictions, args.images).save(partial, format='PNG')
            print(f'pictures: {args.sheet}')
    except (FileNotFoundError, ValueError) as error:
        raise DataError(str(error)) from error


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

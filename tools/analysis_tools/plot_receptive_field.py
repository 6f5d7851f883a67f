"""Draw the effective receptive field of a backbone on a folder of images; numbers as .json and .npy beside it.

python tools/analysis_tools/plot_receptive_field.py CONFIG FOLDER --checkpoint CHECKPOINT --out erf.png

The net is untrained without a checkpoint; give it --cfg-options model.backbone.layer_scale_init_value=1.0 then, or its
blocks add next to nothing.
"""

import argparse
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401
import numpy as np
import torch

from pelk_mm.analysis.figures.charts import png_bytes
from pelk_mm.analysis.figures.image_folder import list_images, read_image
from pelk_mm.analysis.figures.receptive_field import MIN_SIZE, contribution, draw_receptive_field, summarise
from pelk_mm.apis.load_backbone import load_backbone, normalisation_of
from pelk_mm.engine.config import load_config
from pelk_mm.utils.cli import add_common_arguments, run_tool
from pelk_mm.utils.errors import ConfigError, DataError
from pelk_mm.utils.files import claim_files, write_files


def main(argv: list[str]) -> None:
    """Measure and draw what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file with a backbone: classifier, segmentor, detector or backbone')
    parser.add_argument('folder', help='folder of images, searched below too')
    parser.add_argument('--checkpoint', help='checkpoint file, as trained or deployed; the initial weights without one')
    parser.add_argument('--out', required=True, help='PNG to write; .json (squares) and .npy (map) go beside it')
    parser.add_argument('--overwrite', action='store_true', help='replace the files if they exist')
    parser.add_argument(
        '--images', type=int, default=50, help='evenly spaced through the folder (default: %(default)s)'
    )
    parser.add_argument('--size', type=int, default=1024, help='side of the square input (default: %(default)s)')
    parser.add_argument('--device', default='cuda:0' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--seed', type=int, default=0, help='of the initial weights (default: %(default)s)')
    parser.add_argument('--title', help='above the picture; the name of the config by default')
    add_common_arguments(parser)
    args = parser.parse_args(argv)
    files = claim_files(args.out, ('.json', '.npy'), args.overwrite)
    if args.size < MIN_SIZE:
        raise ConfigError(f'--size must be at least {MIN_SIZE} pixels, got {args.size}')
    cfg = load_config(args.config, args.cfg_options)
    norm = normalisation_of(cfg)
    try:
        paths = list_images(args.folder, args.images)
        backbone = load_backbone(cfg, args.checkpoint, args.device, trust=args.trust_checkpoint, seed=args.seed)

        def images() -> Iterator[torch.Tensor]:
            for i, path in enumerate(paths):
                if i and i % 10 == 0:
                    print(f'{i} of {len(paths)} images', flush=True)
                yield read_image(path, args.size, norm.mean, norm.std, norm.rgb)

        scores = contribution(backbone, images())
    except (FileNotFoundError, ValueError) as error:
        raise DataError(str(error)) from error
    except RuntimeError as error:  # torch, where the backbone cannot take such an image or memory runs out
        reason = str(error).strip().split('\n')[0]
        raise DataError(f'the backbone of {args.config} fails on an image of {args.size} pixels: {reason}') from error
    rows = summarise(scores)
    weights = f'{Path(args.checkpoint).name}' if args.checkpoint else f'untrained, seed {args.seed}'
    facts = {'config': args.config, 'weights': weights, 'images': len(paths), 'size': args.size, 'squares': rows}
    title = f'{Path(args.config).stem if args.title is None else args.title}\n{weights}, {len(paths)} images'
    figure = draw_receptive_field(scores, {row['share']: int(row['side']) for row in rows}, title)
    array = io.BytesIO()
    np.save(array, scores.astype(np.float32))
    contents = (png_bytes(figure), json.dumps(facts, indent=2) + '\n', array.getvalue())
    write_files(dict(zip(files, contents, strict=True)))
    print('share of contribution   square   of the area   square of log10(score + 1)   of the area')
    for row in rows:
        print(
            f'{100 * row["share"]:>19.0f} % {row["side"]:>8} {100 * row["area"]:>11.1f} % '
            f'{row["side_log"]:>28} {100 * row["area_log"]:>12.1f} %'
        )
    print(f'written: {", ".join(map(str, files))}')


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

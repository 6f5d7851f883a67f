"""Draw the kernel of a layer of a checkpoint: w_theta, the K x K kernel and the embedding h; arrays as .npz beside it.

python tools/analysis_tools/plot_kernel.py CONFIG CHECKPOINT stages.0.0.mixer --out kernel.png
"""

import argparse
import io
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401
import numpy as np

from pelk_mm.analysis.figures.charts import png_bytes
from pelk_mm.analysis.figures.kernel_pictures import draw_kernel, kernel_layers, layer_kernel
from pelk_mm.apis.load_backbone import load_backbone
from pelk_mm.checkpoints.deploy import can_be_deployed, switch_to_deploy
from pelk_mm.engine.config import load_config
from pelk_mm.utils.cli import add_common_arguments, run_tool
from pelk_mm.utils.errors import ConfigError
from pelk_mm.utils.files import claim_files, write_files


def main(argv: list[str]) -> None:
    """Draw the layer that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of the checkpoint: classifier, segmentor or detector')
    parser.add_argument('checkpoint', help='checkpoint file, as trained or deployed')
    parser.add_argument('layer', nargs='?', help='name such as stages.0.0.mixer; all are listed when it is left out')
    parser.add_argument('--out', help='PNG to write; the arrays go beside it, as .npz')
    parser.add_argument('--overwrite', action='store_true', help='replace the files if they exist')
    parser.add_argument('--channels', type=int, nargs='+', default=[], help='channels to show beside the mean over all')
    parser.add_argument('--deploy', action='store_true', help='merge the branches first: the kernel that is applied')
    add_common_arguments(parser)
    args = parser.parse_args(argv)
    if args.layer is not None and args.out is None:
        raise ConfigError('--out is missing: the PNG to write')
    files = claim_files(args.out, ('.npz',), args.overwrite) if args.out else []
    backbone = load_backbone(load_config(args.config, args.cfg_options), args.checkpoint, trust=args.trust_checkpoint)
    if args.deploy:
        if not can_be_deployed(backbone):
            raise ConfigError(f'--deploy: the backbone of {args.config} has no module with switch_to_deploy()')
        switch_to_deploy(backbone)
    if args.layer is None:
        for name, module in kernel_layers(backbone).items():
            print(f'{name}: {type(module).__name__}, kernel_size={module.kernel_size}')
        return
    try:
        layer = layer_kernel(backbone, args.layer)
        figure = draw_kernel(layer, args.channels)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    arrays = io.BytesIO()
    np.savez_compressed(arrays, **layer.arrays())  # type: ignore[arg-type]
    write_files(dict(zip(files, (png_bytes(figure), arrays.getvalue()), strict=True)))
    for name, array in layer.arrays().items():
        print(f'{name}: {" x ".join(map(str, array.shape))}')
    print(f'written: {", ".join(map(str, files))}')


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))

"""What ``--tta``, ``--out``, ``--show`` and ``--show-dir`` mean for each task; a flag without meaning is refused."""

import os
import pickle
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.evaluator import DumpResults
from mmengine.registry import METRICS

from ..engine.config import task_of
from ..preflight.walk import innermost
from ..utils.errors import ConfigError, OutputError
from ..utils.files import claim_file, claim_folder, write_files

_VISUALIZATION_HOOKS = {
    'classification': 'mmpretrain.VisualizationHook',
    'segmentation': 'mmseg.SegVisualizationHook',
    'detection': 'mmdet.DetVisualizationHook',
}
_DUMPS = {'classification': 'mmengine.DumpResults', 'detection': 'mmdet.DumpDetResults'}
_WRITES_LABEL_MAPS = ('IoUMetric', 'CityscapesMetric')


def enable_tta(cfg: Config) -> None:
    """Wrap the model and the pipeline for test-time augmentation.

    The config's ``tta_model`` and ``tta_pipeline`` are used; without them classifiers and detectors are also tested
    on the flipped image, as the toolboxes' own tools do.

    Raises:
        ConfigError: If there is nothing to use, which for a segmentor means one of the two is missing.
    """
    task = task_of(cfg)
    if task == 'classification':
        tta_model: Any = {'type': 'mmpretrain.AverageClsScoreTTA'}
    elif task == 'detection':
        nms = {'type': 'nms', 'iou_threshold': 0.5}
        tta_model = {'type': 'mmdet.DetTTAModel', 'tta_cfg': {'nms': nms, 'max_per_img': 100}}
    else:
        missing = [name for name in ('tta_model', 'tta_pipeline') if name not in cfg]
        if missing:
            raise ConfigError(f'--tta needs {" and ".join(missing)} in the config {cfg.filename}, which has none')
        tta_model = None
    dataset = innermost(cfg.test_dataloader)
    pipeline = cfg.get('tta_pipeline') or _flip_pipeline(dataset.pipeline)
    cfg.model = ConfigDict(**(cfg.get('tta_model') or tta_model), module=cfg.model)
    dataset.pipeline = pipeline


def set_out(cfg: Config, out: str, overwrite: bool = False, inputs: Sequence[str] = ()) -> None:
    """Dump predictions: label maps as PNG into a folder for segmentors, else one pickle file, whole or not at all.

    Args:
        cfg: Changed in place.
        out: The folder or the file.
        overwrite: It may hold something already.
        inputs: Files that are never replaced.

    Raises:
        ConfigError: If ``out`` does not fit the task, or no evaluator of the config can write label maps.
        OutputError: If it cannot be written, or holds something.
    """
    task = task_of(cfg)
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list | tuple) else [cfg.test_evaluator]
    if task == 'segmentation':
        if Path(out).suffix in ('.pkl', '.pickle', '.json'):
            raise ConfigError(f'--out {out}: label maps are written as PNG files, so a folder is expected')
        able = [e for e in evaluators if str(e.get('type')).split('.')[-1] in _WRITES_LABEL_MAPS]
        if not able:
            raise ConfigError(f'--out needs a test_evaluator of type {" or ".join(_WRITES_LABEL_MAPS)} in the config')
        claim_folder(out, overwrite)
        for evaluator in able:
            evaluator.output_dir = out
        return
    if task not in _DUMPS:
        raise ConfigError(f'--out: no way to dump predictions for default_scope {cfg.get("default_scope")!r}')
    if Path(out).suffix not in ('.pkl', '.pickle'):
        raise ConfigError(f'--out {out}: predictions are dumped to one file ending in .pkl or .pickle')
    claim_file(out, overwrite, inputs)
    cfg.test_evaluator = [*evaluators, {'type': _whole(METRICS.get(_DUMPS[task])), 'out_file_path': out}]


def _whole(dump: type[DumpResults]) -> type[DumpResults]:
    """Let a metric that dumps predictions write its file whole or not at all."""

    class WholeDump(dump):  # type: ignore[misc, valid-type]
        """Writes beside the file's place and moves it there."""

        def compute_metrics(self, results: list) -> dict:
            """Dump the predictions; there is nothing to score."""
            write_files({Path(self.out_file_path): pickle.dumps(results)})
            return {}

    return WholeDump


def set_show(cfg: Config, show: bool, show_dir: str | None, overwrite: bool = False) -> None:
    """Paint predictions, in a window or into a folder.

    Args:
        cfg: Changed in place.
        show: Open a window.
        show_dir: The folder.
        overwrite: It may hold something already.

    Raises:
        ConfigError: If the task is unknown or the config has no visualizer.
        OutputError: If a window is asked for where there is no display, or the folder cannot be written or holds
            something.
    """
    task = task_of(cfg)
    if task is None:
        raise ConfigError(f'--show and --show-dir: nothing to paint for default_scope {cfg.get("default_scope")!r}')
    if cfg.get('visualizer') is None:
        raise ConfigError(f'--show and --show-dir need a visualizer in the config {cfg.filename}, which has none')
    if show and sys.platform == 'linux' and not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        raise OutputError('--show needs a display, and DISPLAY is not set: use --show-dir FOLDER')
    hooks = cfg.setdefault('default_hooks', ConfigDict())
    hook = hooks.setdefault('visualization', ConfigDict(type=_VISUALIZATION_HOOKS[task]))
    hook['enable' if task == 'classification' else 'draw'] = True
    hook['interval'] = 1
    hook['show'] = show
    if show_dir is None:
        return
    folder = os.path.abspath(claim_folder(show_dir, overwrite))
    if task == 'classification':
        hook['out_dir'] = folder
    elif task == 'detection':
        hook['test_out_dir'] = folder
    else:
        cfg.visualizer.save_dir = folder


def _flip_pipeline(pipeline: list) -> list:
    """Replace the last transform of a pipeline by two copies, with and without a flip before it."""
    *first, pack = deepcopy(list(pipeline))
    if str(pack.get('type')).endswith('PackDetInputs'):
        keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
        pack = {'type': 'PackDetInputs', 'meta_keys': keys}
    flips = [{'type': 'RandomFlip', 'prob': 1.0}, {'type': 'RandomFlip', 'prob': 0.0}]
    return [*first, {'type': 'TestTimeAug', 'transforms': [flips, [pack]]}]

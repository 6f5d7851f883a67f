"""Shrinking a config for a step on a CPU: widths, data folder, batches, workers, image scale and run length only."""

from functools import cache
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from pelk_mm import models
from pelk_mm.analysis.counting.weightless import build_weightless
from pelk_mm.engine.config import fit_to_device_with_notes, load_config, set_dataloader_defaults

ROOT = Path(__file__).parents[2] / 'configs'
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob('*.py') if '_base_' not in path.parts)
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
WIDTH = 8
ACCUMULATED = 4  # batches of two that the made-up ImageNet has
SCALES = {
    # ADE20K, CamVid, the toy scenes
    (2048, 512): (256, 64),
    (480, 360): (96, 72),
    **{(n, n): (64, 64) for n in (128, 256, 512)},
    # COCO
    **{(side, 1333): (side // 8, 166) for side in range(400, 801)},
    (384, 600): (48, 75),
    (1333, 800): (128, 96),
    (320, 320): (96, 96),
    # ImageNet; 64 pixels stay
    (384, 384): (64, 64),
}
SIDES = {'scale': {224: 64, 235: 67, 256: 72, 384: 64}, 'crop_size': {224: 64}}


@cache
def resolved(name: str) -> Config:
    """A config as it stands, with nothing in the environment: read once, so only to be looked at."""
    return load_config(ROOT / name)


def small_config(name: str, data_root: Path, work_dir: Path) -> Config:
    """The config, so small that a step takes a second; nothing but the permitted is changed."""
    cfg = load_config(ROOT / name)
    fit_to_device_with_notes(cfg)
    set_dataloader_defaults(cfg)
    old_root = cfg.train_dataloader.dataset.data_root
    cfg = Config(_shrink_scales(cfg._cfg_dict), filename=cfg.filename)
    narrow(cfg.model)
    for name in LOADERS:
        cfg[name].update(
            batch_size=min(cfg[name].batch_size, 2), num_workers=0, persistent_workers=False, pin_memory=False
        )
        cfg[name].dataset.data_root = str(data_root)
    if cfg.optim_wrapper.get('accumulative_counts', 1) > ACCUMULATED:
        cfg.optim_wrapper.accumulative_counts = ACCUMULATED
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        if evaluator.get('ann_file'):
            evaluator.ann_file = evaluator.ann_file.replace(old_root, str(data_root))
    cfg.train_cfg.val_interval = 1
    cfg.work_dir = str(work_dir)
    return cfg


def narrow(model: Config) -> None:
    """Make every layer narrow; depths, kernels and the number of layers stay."""
    backbone = model.backbone
    name = arch = backbone.arch
    if isinstance(name, str):
        arch = getattr(models, backbone.type.removeprefix('pelk_mm.')).arch_settings[name]
    widths = [WIDTH * (i + 1) for i in range(4)]
    backbone.arch = {'depths': list(arch['depths']), 'channels': widths}
    if backbone.type in ('pelk_mm.PeLK', 'pelk_mm.SLaK'):
        widths = [int(width * backbone.get('width_factor', 1.3) + 1e-6) for width in widths]
    elif backbone.type == 'pelk_mm.UniConvNet':
        backbone.group_width = WIDTH
    elif backbone.type == 'pelk_mm.OverLoCK':
        backbone.focus_depths, _ = models.OverLoCK.focus_settings[name]
        if 'overview_channels' in model.get('head', {}):
            model.head.overview_channels = widths[3]
        widths = [*widths[:2], *(width + widths[3] // 4 for width in widths[2:])]
    if 'decode_head' in model:
        model.decode_head.update(in_channels=widths, channels=8)
        model.auxiliary_head.update(in_channels=widths[2], channels=8)
        if model.test_cfg.mode == 'slide':
            model.test_cfg.stride = (43, 43)
    elif 'roi_head' in model:
        model.neck.update(in_channels=widths, out_channels=8)
        model.rpn_head.update(in_channels=8, feat_channels=8)
        heads = model.roi_head
        box_heads = heads.bbox_head if isinstance(heads.bbox_head, list) else [heads.bbox_head]
        for head in (*box_heads, heads.mask_head):
            head.update(in_channels=8, conv_out_channels=8)
        for head in box_heads:
            head.fc_out_channels = 16
        for extractor in (heads.bbox_roi_extractor, heads.mask_roi_extractor):
            extractor.out_channels = 8
    elif 'neck' in model:
        model.neck.in_channels = widths[-1]
        model.head.in_channels = 3 * widths[-1]
    else:
        model.head.in_channels = widths[-1]


def build_backbone(cfg: Config) -> nn.Module:
    """The backbone alone, without memory for its weights where its constructor does not read them."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return build_weightless(lambda: MODELS.build(cfg.model.backbone))


def _shrink_scales(node, key=None):
    if isinstance(node, dict):
        return type(node)({key: _shrink_scales(value, key) for key, value in node.items()})
    if isinstance(node, tuple) and all(isinstance(value, int) for value in node) and node in SCALES:
        return SCALES[node]
    if isinstance(node, int) and key in SIDES and not isinstance(node, bool):
        return SIDES[key].get(node, node)
    return type(node)(_shrink_scales(value) for value in node) if isinstance(node, list | tuple) else node

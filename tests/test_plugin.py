"""Configs that the installed toolboxes ship, with only the backbone and its channel numbers changed.

One fresh interpreter imports the toolboxes, not pelk_mm, and forks a child per case: each starts with no trace of
pelk_mm, and the slow imports are paid once.
"""

import importlib
import importlib.util
import json
import multiprocessing
import os
import sys
import traceback
from pathlib import Path

import children
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.processes]

SHIPPED = {
    'mmpretrain': 'convnext/convnext-tiny_32xb128_in1k.py',
    'mmseg': 'convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py',
    'mmdet': 'convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py',
}
# What a user writes over the shipped config; {type} is the only difference between the two ways to plug in.
CHANGES = {
    'mmpretrain': "model = dict(backbone=dict(_delete_=True, type='{type}', arch='atto'), head=dict(in_channels=416))",
    'mmseg': """model = dict(
        backbone=dict(_delete_=True, type='{type}', arch='atto', out_indices=[0, 1, 2, 3], gap_before_final_norm=False),
        decode_head=dict(in_channels=[52, 104, 208, 416]),
        auxiliary_head=dict(in_channels=208))""",
    'mmdet': """model = dict(
        backbone=dict(_delete_=True, type='{type}', arch='atto', out_indices=[0, 1, 2, 3], gap_before_final_norm=False),
        neck=dict(in_channels=[52, 104, 208, 416]))""",
}
DECAY = """
optim_wrapper = dict(
    constructor='{constructor}', paramwise_cfg=dict(_delete_=True, decay_rate=0.7, decay_type='layer_wise'))
"""
STYLES = {
    'scoped': ('pelk_mm.PeLK', 'pelk_mm.LayerDecayOptimWrapperConstructor', ''),
    'custom_imports': (
        'PeLK',
        'LayerDecayOptimWrapperConstructor',
        "custom_imports = dict(imports=['pelk_mm'], allow_failed_imports=False)\n",
    ),
}
CASES = [(toolbox, style) for toolbox in SHIPPED for style in STYLES]


def write_config(folder, toolbox, style):
    """The config a user writes; the optimizer is checked beside the model, since the shipped one refuses PeLK."""
    type_, constructor, imports = STYLES[style]
    (package,) = importlib.util.find_spec(toolbox).submodule_search_locations
    base = Path(package, '.mim', 'configs', SHIPPED[toolbox])
    path = folder / f'{toolbox}_{style}.py'
    changes = CHANGES[toolbox].format(type=type_) + DECAY.format(constructor=constructor)
    path.write_text(f'_base_ = {str(base)!r}\n{imports}{changes}')
    return path


def made_up_loss(toolbox, model):
    import torch

    inputs = torch.randn(2, 3, 64, 64)
    if toolbox == 'mmpretrain':
        from mmpretrain.structures import DataSample

        return model.loss(inputs, [DataSample().set_gt_label(label) for label in (3, 999)])
    if toolbox == 'mmseg':
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(150, (1, 64, 64)))) for _ in range(2)]
        return model.loss(inputs, samples)
    from mmdet.testing import demo_mm_inputs

    packed = demo_mm_inputs(2, [[3, 128, 128]] * 2, num_classes=80, with_mask=True)
    return model(**model.data_preprocessor(packed, training=True), mode='loss')


def run_case(folder, toolbox, style):
    """What a Runner does with the config, up to one backward pass. Returns what the tests look at."""
    import torch
    from mmengine.config import Config
    from mmengine.model.utils import revert_sync_batchnorm
    from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, init_default_scope

    torch.manual_seed(0)
    fresh = not any(name.split('.')[0] == 'pelk_mm' for name in sys.modules)
    cfg = Config.fromfile(write_config(folder, toolbox, style))
    imported_by_config = 'pelk_mm' in sys.modules
    init_default_scope(cfg.default_scope)
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model = revert_sync_batchnorm(model).train()
    losses = made_up_loss(toolbox, model)
    total, _ = model.parse_losses(losses)
    total.backward()

    constructor = cfg.optim_wrapper.pop('constructor')
    paramwise = cfg.optim_wrapper.pop('paramwise_cfg')
    cfg.optim_wrapper.type = 'OptimWrapper'  # the shipped AmpOptimWrapper needs a GPU
    cfg.optim_wrapper.pop('loss_scale', None)
    built = OPTIM_WRAPPER_CONSTRUCTORS.build(
        {'type': constructor, 'optim_wrapper_cfg': cfg.optim_wrapper, 'paramwise_cfg': paramwise}
    )
    groups = built(model).optimizer.param_groups
    return {
        'fresh': fresh,
        'imported_by_config': imported_by_config,
        'backbone': f'{type(model.backbone).__module__.split(".")[0]}.{type(model.backbone).__name__}',
        'model': type(model).__module__.split('.')[0],
        'loss': total.item(),
        'no_gradient': [name for name, p in model.backbone.named_parameters() if p.grad is None],
        'finite': all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None),
        'stem_scale': [g['lr_scale'] for g in groups if 'backbone.downsample_layers.0.0.weight' in g['param_names']],
    }


def _child(folder, toolbox, style):
    try:
        result = run_case(folder, toolbox, style)
    except Exception:
        result = {'error': traceback.format_exc()}
    (folder / f'{toolbox}_{style}.json').write_text(json.dumps(result))


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp('plugin')
    cases = [case for case in CASES if importlib.util.find_spec(case[0])]
    root = Path(__file__).parents[1]
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(root), os.environ.get('PYTHONPATH', '')])}
    command = [sys.executable, __file__, str(folder), json.dumps(cases)]
    done = children.run(command, env=env, cwd=folder)
    assert done.returncode == 0, done.stderr
    found = {}
    for toolbox, style in cases:
        path = folder / f'{toolbox}_{style}.json'
        found[toolbox, style] = json.loads(path.read_text()) if path.exists() else {'error': 'no result'}
    return found


@pytest.mark.parametrize(('toolbox', 'style'), CASES)
def test_plugs_into_a_shipped_config(results, toolbox, style):
    if (toolbox, style) not in results:
        pytest.skip(f'{toolbox} is not installed')
    found = results[toolbox, style]
    assert 'error' not in found, found['error']
    assert found['fresh'], 'pelk_mm was imported before the config was read'
    assert found['imported_by_config'] == (style == 'custom_imports')
    assert found['backbone'] == 'pelk_mm.PeLK'
    assert found['model'] == toolbox
    assert 0 < found['loss'] < 100
    assert found['finite']
    assert found['no_gradient'] == []
    assert found['stem_scale'] == [pytest.approx(0.7**7)]


if __name__ == '__main__':
    for name in sorted({case[0] for case in json.loads(sys.argv[2])}):
        importlib.import_module(f'{name}.models')
    context = multiprocessing.get_context('fork')
    for toolbox, style in json.loads(sys.argv[2]):
        child = context.Process(target=_child, args=(Path(sys.argv[1]), toolbox, style))
        child.start()
        child.join(300)
        if child.is_alive():  # a hung child must not outlive the test
            child.kill()

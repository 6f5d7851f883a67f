"""What is particular to the demo configs: void in CamVid, class weights, names of classes, four nets side by side."""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from small import ROOT, build_backbone, small_config

from pelk_mm.datasets import TOY_CLASSES
from pelk_mm.engine.config import load_config

CAMVID = 'demo/upernet_pelk_atto_camvid.py'
TINY = ('pelk_atto', 'pelk_atto_no_h', 'dense_atto', 'convnext_atto')


def test_void_of_camvid_counts_nowhere(data, tmp_path):
    pytest.importorskip('mmseg', reason='UperNet is of mmseg')
    cfg = small_config(CAMVID, data(CAMVID), tmp_path)
    sets = (cfg.train_dataloader.dataset, cfg.val_dataloader.dataset, cfg.test_dataloader.dataset)
    crops = [step.ignore_index for step in cfg.train_dataloader.dataset.pipeline if step.type == 'RandomCrop']
    ignored = [d.ignore_index for d in sets] + crops + [cfg.val_evaluator.ignore_index, cfg.test_evaluator.ignore_index]
    assert ignored == [11] * 6
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    assert model.data_preprocessor.seg_pad_val == 11
    for head in (model.decode_head, model.auxiliary_head):
        void = torch.full((2, 1, 8, 8), 11)
        logits = torch.randn(2, 11, 8, 8)
        samples = [type('Sample', (), {'gt_sem_seg': type('Map', (), {'data': ids})})() for ids in void]
        assert head.loss_by_feat(logits, samples)['loss_ce'] == 0


def test_class_weights_of_camvid_are_the_root_of_median_over_share():
    shares = np.array([15.8, 24.1, 0.99, 29.3, 6.7, 11.2, 1.1, 1.4, 4.6, 0.64, 0.54])
    cfg = load_config(ROOT / CAMVID)
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        np.testing.assert_allclose(head.loss_decode.class_weight, np.sqrt(np.median(shares) / shares), atol=0.006)


def test_toy_config_names_the_classes_of_the_scenes():
    cfg = load_config(ROOT / 'demo/upernet_pelk_atto_toy.py')
    for split in ('train', 'val', 'test'):
        classes = cfg[f'{split}_dataloader'].dataset.metainfo.classes
        assert set(classes) == set(TOY_CLASSES)
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        assert head.num_classes == len(head.loss_decode.class_weight) == len(TOY_CLASSES)


@pytest.mark.parametrize('name', ['camvid', 'ade'])
def test_crops_are_what_the_model_pads_to(name):
    cfg = load_config(ROOT / f'demo/upernet_pelk_atto_{name}.py')
    crop = cfg.model.data_preprocessor['size']
    assert any(step.get('crop_size', step.get('scale')) == crop for step in cfg.train_dataloader.dataset.pipeline)


def test_the_nets_for_tiny_imagenet_differ_in_their_mixer_alone():
    pytest.importorskip('mmpretrain', reason='ConvNeXt is of mmpretrain')
    configs = {name: load_config(ROOT / f'demo/{name}_imagenet_tiny.py') for name in TINY}
    first = configs[TINY[0]].to_dict()
    for cfg in configs.values():
        other = cfg.to_dict()
        assert {key for key in first if first[key] != other[key]} <= {'model'}
        assert {key for key in first['model'] if first['model'][key] != other['model'][key]} <= {'backbone'}
    nets = {name: build_backbone(cfg) for name, cfg in configs.items()}
    pelk = nets['pelk_atto']
    assert list(pelk.channels) == list(nets['convnext_atto'].channels)
    assert list(pelk.depths) == list(nets['convnext_atto'].depths)
    sizes = {name: {key: p.shape for key, p in net.named_parameters()} for name, net in nets.items()}
    without_h = {key: shape for key, shape in sizes['pelk_atto'].items() if not key.startswith('pos_embeds')}
    assert without_h == sizes['pelk_atto_no_h']
    changed = {key for key, shape in sizes['dense_atto'].items() if shape != without_h[key]}
    assert changed == {key for key in without_h if key.endswith('w_theta')}
    assert sizes['dense_atto']['stages.0.0.mixer.w_theta'] == (19, 51, 51)
    drop_path = {cfg.model.backbone.drop_path_rate for cfg in configs.values()}
    scale = {cfg.model.backbone.layer_scale_init_value for cfg in configs.values()}
    assert len(drop_path) == len(scale) == 1

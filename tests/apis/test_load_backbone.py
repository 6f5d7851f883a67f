import logging

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from pelk_mm.apis.load_backbone import Normalisation, backbone_config, backbone_state, load_backbone, normalisation_of
from pelk_mm.checkpoints.deploy import DEPLOY_KEY
from pelk_mm.models import PeLK
from pelk_mm.utils.errors import CheckpointError, ConfigError

BACKBONE = {
    'type': 'pelk_mm.PeLK',
    'arch': {'depths': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)},
    'kernel_sizes': (13, 11, 9, 7),
    'width_factor': 1.0,
    'branch_norm_cfg': {'type': 'SyncBN'},
}
IMAGE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def config(**model):
    return named({'type': 'Any', 'backbone': BACKBONE, **model})


def named(model):
    return Config({'model': model}, cfg_text='model = ...', filename='some.py')


def trained():
    """A backbone with weights that no initialisation gives, in its trained form."""
    torch.manual_seed(1)
    net = PeLK(**{key: value for key, value in BACKBONE.items() if key not in ('type', 'branch_norm_cfg')})
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    net.gap_before_final_norm = False
    return net.eval()


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.backbone.', 'detector.backbone.'])
@pytest.mark.parametrize('deployed', [False, True])
def test_weights_of_any_checkpoint(tmp_path, prefix, deployed):
    net = trained()
    with torch.no_grad():
        expected = net(IMAGE)[0]
    if deployed:
        net.switch_to_deploy()
    state = {prefix + key: value for key, value in net.state_dict().items()}
    if prefix:
        state['head.fc.weight'] = torch.zeros(3)
    torch.save({'state_dict': state, 'meta': {DEPLOY_KEY: True} if deployed else {}}, tmp_path / 'net.pth')
    backbone = load_backbone(config(), str(tmp_path / 'net.pth'))
    assert not backbone.training
    with torch.no_grad():
        found = backbone(IMAGE)[0]
    assert found.shape == (1, 8, 2, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_initial_weights_follow_the_seed_quietly_and_leave_the_caller_alone(capfd):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    level = MMLogger.get_current_instance().level
    weights = [load_backbone(config(), seed=seed).stages[0][0].mixer.w_theta for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert MMLogger.get_current_instance().level == level <= logging.INFO
    assert 'init_weights' not in ''.join(capfd.readouterr())


def test_a_pretrained_init_cfg_counts_as_initial(tmp_path):
    net = trained()
    torch.save(
        {'state_dict': {f'backbone.{key}': value for key, value in net.state_dict().items()}}, tmp_path / 'a.pth'
    )
    init = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'a.pth'), 'prefix': 'backbone.'}
    backbone = load_backbone(config(backbone={**BACKBONE, 'init_cfg': init}))
    assert torch.equal(backbone.stages[0][0].mixer.w_theta, net.stages[0][0].mixer.w_theta)


def test_where_the_backbone_is():
    assert backbone_config(config()) == BACKBONE
    assert backbone_config(Config({'model': {'type': 'TTA', 'module': {'inner': {'backbone': BACKBONE}}}})) == BACKBONE
    assert backbone_config(Config({'model': BACKBONE})) == BACKBONE
    load_backbone(named(BACKBONE))


@pytest.mark.parametrize(
    ('preprocessor', 'top', 'expected'),
    [
        (None, None, Normalisation()),
        ({'mean': [1, 2, 3], 'std': [4, 5, 6], 'bgr_to_rgb': True}, None, Normalisation((1, 2, 3), (4, 5, 6), True)),
        ({'mean': [1, 2, 3], 'std': [4, 5, 6]}, None, Normalisation((1, 2, 3), (4, 5, 6), False)),
        (None, {'mean': [1, 2, 3], 'std': [4, 5, 6], 'to_rgb': True}, Normalisation((1, 2, 3), (4, 5, 6), True)),
        ({'type': 'SegDataPreProcessor'}, None, Normalisation()),
    ],
)
def test_normalisation(preprocessor, top, expected):
    cfg = config() if preprocessor is None else config(data_preprocessor=preprocessor)
    if top is not None:
        cfg.data_preprocessor = top
    assert normalisation_of(cfg) == expected


def test_bad_input(tmp_path):
    with pytest.raises(ConfigError, match='data_preprocessor.mean of some.py must have 3 values'):
        normalisation_of(config(data_preprocessor={'mean': [1], 'std': [1]}))
    with pytest.raises(ConfigError, match='cannot build the backbone of some.py: KeyError: .*NoSuchNet'):
        load_backbone(config(backbone={'type': 'NoSuchNet'}))
    with pytest.raises(ConfigError, match="--device 'tpu:x' is not a device"):
        load_backbone(config(), device='tpu:x')
    with pytest.raises(CheckpointError, match='nowhere.pth does not exist'):
        load_backbone(config(), 'nowhere.pth')
    state = trained().state_dict()
    del state['stages.0.0.mixer.w_theta']
    torch.save({'state_dict': state}, tmp_path / 'part.pth')
    with pytest.raises(CheckpointError, match=r'part.pth does not fit .*\(missing: stages.0.0.mixer.w_theta\)'):
        load_backbone(config(), str(tmp_path / 'part.pth'))
    two = {'state_dict': {'teacher.backbone.a': torch.zeros(1), 'student.backbone.a': torch.zeros(1)}}
    with pytest.raises(CheckpointError, match='two.pth holds several backbones: student.backbone., teacher.backbone.'):
        backbone_state(two, 'two.pth')

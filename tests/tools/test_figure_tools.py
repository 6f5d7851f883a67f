import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tool_runner import run

PARAMETERS = 'analysis_tools/plot_parameters.py'
MACS = 'analysis_tools/plot_macs.py'
KERNEL = 'analysis_tools/plot_kernel.py'
DESIGNS = 'analysis_tools/plot_kernel_designs.py'
FIELD = 'analysis_tools/plot_receptive_field.py'


def one_line(capsys):
    err = capsys.readouterr().err
    assert err.startswith('error: ')
    assert err.count('\n') == 1
    return err


def test_parameters(project, capsys):
    assert run(PARAMETERS, '--arch', 'atto', '--kernel-sizes', 7, 13, '--out', 'new/p.png') == 0
    assert 'written: new/p.png, new/p.csv' in capsys.readouterr().out
    assert Image.open('new/p.png').size == (1000, 420)
    with open('new/p.csv') as file:
        rows = list(csv.DictReader(file))
    assert [row['kernel_size'] for row in rows] == ['7', '9', '11', '13']
    kernels = 2 * 40 + 2 * 80 + 6 * 160 + 2 * 320  # ConvNeXt-atto: blocks by channels
    assert [int(rows[3][mixer]) for mixer in ('dense', 'stripe', 'peripheral')] == [
        kernels * count for count in (13 * 13, 2 * 5 * 13, 9 * 9)
    ]
    assert run(PARAMETERS, '--out', 'new/p.png') == 2
    assert 'new/p.png exists: pass --overwrite to replace it' in one_line(capsys)
    assert run(PARAMETERS, '--kernel-sizes', 8, 12, '--out', 'q.png') == 2
    assert 'odd' in one_line(capsys)
    assert not (project / 'q.png').exists()


def test_kernel_designs(project, capsys):
    assert run(DESIGNS, '--kernel-size', 13, '--stripe-width', 3, '--out', 'new/d.png') == 0
    out = capsys.readouterr().out
    assert ' peripheral 13x13: 81 parameters a channel' in out
    assert 'written: new/d.png, new/d.csv' in out
    with open('new/d.csv') as file:
        rows = list(csv.DictReader(file))
    assert [(row['net'], int(row['parameters'])) for row in rows] == [('RepLKNet', 169), ('SLaK', 78), ('PeLK', 81)]
    assert rows[2]['segments'] == '2 2 1 1 1 1 1 2 2'
    assert run(DESIGNS, '--out', 'new/d.png') == 2
    assert 'new/d.png exists: pass --overwrite to replace it' in one_line(capsys)
    assert run(DESIGNS, '--out', 'new/d.png', '--overwrite') == 0
    assert 'two stripes 51x5 and 5x51: 510 parameters a channel' in capsys.readouterr().out
    for option, value, message in (
        ('--kernel-size', 12, 'kernel_size must be odd and positive, but got 12'),
        ('--central-size', 53, 'central_size must be at most kernel_size=51, but got 53'),
        ('--stripe-width', 4, 'stripe_width must be odd and positive, but got 4'),
        ('--stripe-width', 53, 'stripe_width must be at most kernel_size=51, but got 53'),
    ):
        assert run(DESIGNS, option, value, '--out', 'e.png') == 2
        assert message in one_line(capsys)
    assert not list(project.glob('e.*'))


def test_macs(project, capsys):
    assert run(MACS, 'seg.py', 'cls.py', '--shape', 64, 96, '--out', 'm.png') == 0
    out = capsys.readouterr().out
    with open('m.csv') as file:
        seg, cls = list(csv.DictReader(file))
    assert (seg['model'], cls['model']) == ('seg', 'cls')
    # One block a stage, 8 channels, linears 8 -> 32 -> 8 and a LayerNorm (5 an element) on maps of 16 x 24 to 2 x 3.
    pixels = 16 * 24 + 8 * 12 + 4 * 6 + 2 * 3
    assert int(seg['ffn']) == int(cls['ffn']) == pixels * (2 * 8 * 32 + 5 * 8)
    assert set(seg) == {'model', 'ffn', 'large_kernel', 'downsample', 'pos_embed', 'total'}
    assert f'seg: {int(seg["total"]) / 1e9:.1f} G' in out
    assert Image.open('m.png').size == (900, 495)
    assert run(MACS, 'nowhere.py', '--out', 'n.png') == 2
    assert 'config nowhere.py does not exist' in one_line(capsys)
    assert run(MACS, 'seg.py', './seg.py', '--out', 'n.png') == 2
    assert 'must have different file names' in one_line(capsys)
    assert run(MACS, 'seg.py', '--shape', 0, 5, '--out', 'n.png') == 2
    assert '--shape must be two positive numbers' in one_line(capsys)


@pytest.mark.parametrize('task', ['seg', 'cls', 'det'])
def test_kernel_of_any_checkpoint(project, checkpoints, capsys, task):
    layer = 'stages.0.0.mixer'
    assert run(KERNEL, f'{task}.py', checkpoints[task], layer, '--out', 'k.png', '--channels', 1) == 0
    assert 'w_theta: 3 x 9 x 9\nkernel: 3 x 13 x 13\npos_embed: 3 x 13 x 13' in capsys.readouterr().out
    assert Image.open('k.png').size == (3 * 360, 2 * 288 + 40)
    state = torch.load(checkpoints[task], weights_only=True)['state_dict']
    arrays = np.load('k.npz')
    owner = np.repeat(np.arange(9), [2, 2, 1, 1, 1, 1, 1, 2, 2])
    w_theta = state[f'backbone.{layer}.w_theta'].numpy()
    np.testing.assert_array_equal(arrays['kernel'], w_theta[:, owner][:, :, owner])
    np.testing.assert_array_equal(arrays['pos_embed'], state['backbone.pos_embeds.0'].numpy())

    convert = 'model_converters/reparameterize_model.py'
    assert run(convert, f'{task}.py', checkpoints[task], 'deployed.pth') == 0
    assert run(KERNEL, f'{task}.py', 'deployed.pth', f'backbone.{layer}', '--out', 'd.png') == 0
    assert run(KERNEL, f'{task}.py', checkpoints[task], layer, '--out', 'k.png', '--deploy', '--overwrite') == 0
    merged, deployed = np.load('k.npz'), np.load('d.npz')
    np.testing.assert_allclose(merged['kernel'], deployed['kernel'], rtol=1e-6)
    assert np.abs(merged['kernel'] - arrays['kernel']).max() > 1e-3


def test_kernel_lists_and_errors(project, checkpoints, capsys):
    names = [f'stages.{i}.0.mixer' for i in range(4)]
    assert run(KERNEL, 'seg.py', checkpoints['seg']) == 0
    assert [line.split(':')[0] for line in capsys.readouterr().out.splitlines()] == names
    assert run(KERNEL, 'seg.py', checkpoints['seg'], 'stages.9', '--out', 'k.png') == 2
    assert f"layer 'stages.9' is not in the backbone; choose one of: {', '.join(names)}" in one_line(capsys)
    assert run(KERNEL, 'seg.py', checkpoints['seg'], 'norm0', '--out', 'k.png') == 2
    assert "layer 'norm0' is a LayerNorm2d without a depthwise kernel" in one_line(capsys)
    assert run(KERNEL, 'seg.py', checkpoints['seg'], names[0], '--out', 'k.png', '--channels', 3) == 2
    assert 'channels must be different numbers from 0 to 2, but got [3]' in one_line(capsys)
    assert run(KERNEL, 'seg.py', checkpoints['seg'], names[0]) == 2
    assert '--out is missing' in one_line(capsys)
    assert run(KERNEL, 'seg.py', 'nowhere.pth', names[0], '--out', 'k.png') == 2
    assert 'checkpoint nowhere.pth does not exist' in one_line(capsys)
    torch.save({'state_dict': {}, 'run': run}, 'unsafe.pth')
    assert run(KERNEL, 'seg.py', 'unsafe.pth', names[0], '--out', 'k.png') == 2
    assert 'unsafe.pth is refused' in one_line(capsys)
    assert not list(project.glob('k.*'))


@pytest.mark.parametrize('task', ['seg', 'cls', 'det'])
def test_receptive_field(project, tool_data, checkpoints, capsys, task):
    options = ['--images', 2, '--size', 64, '--device', 'cpu']
    assert (
        run(FIELD, f'{task}.py', tool_data / 'images', '--checkpoint', checkpoints[task], *options, '--out', 'e.png')
        == 0
    )
    assert 'written: e.png, e.json, e.npy' in capsys.readouterr().out
    assert Image.open('e.png').size == (640, 544)
    scores, facts = np.load('e.npy'), json.loads((project / 'e.json').read_text())
    assert scores.shape == (64, 64)
    assert (scores >= 0).all()
    assert scores.any()
    assert (facts['images'], facts['size'], facts['weights']) == (2, 64, f'{task}.pth')
    sides = [row['side'] for row in facts['squares']]
    assert [row['share'] for row in facts['squares']] == [0.2, 0.3, 0.5, 0.99]
    assert sides == sorted(sides)
    half = sides[2] // 2
    assert scores[32 - half : 33 + half, 32 - half : 33 + half].sum() >= 0.5 * scores.sum()
    assert scores[33 - half : 32 + half, 33 - half : 32 + half].sum() < 0.5 * scores.sum()


def test_kernel_and_receptive_field_of_another_backbone(project, tool_data, capsys):
    from mmpretrain.models import ConvNeXt

    arch = {'depths': [1, 1, 1, 1], 'channels': [8, 8, 8, 8]}
    (project / 'convnext.py').write_text(
        "default_scope = 'mmpretrain'\n"
        f"backbone = dict(type='ConvNeXt', arch={arch}, layer_scale_init_value=1.0)\n"
        "model = dict(type='ImageClassifier', backbone=backbone)\n"
    )
    state = ConvNeXt(arch).state_dict()
    torch.save({f'backbone.{key}': value for key, value in state.items()}, 'convnext.pth')
    layer = 'stages.2.0.depthwise_conv'
    assert run(KERNEL, 'convnext.py', 'convnext.pth', layer, '--out', 'k.png') == 0
    np.testing.assert_array_equal(np.load('k.npz')['kernel'], state[f'{layer}.weight'][:, 0])
    assert Image.open('k.png').size == (360, 328)
    assert run(KERNEL, 'convnext.py', 'convnext.pth', layer, '--out', 'd.png', '--deploy') == 2
    assert '--deploy: the backbone of convnext.py has no module with switch_to_deploy()' in one_line(capsys)
    assert run(FIELD, 'convnext.py', tool_data / 'images', '--size', 64, '--out', 'e.png') == 0
    assert np.load('e.npy').shape == (64, 64)  # its pooling has been turned off


def test_receptive_field_of_initial_weights(project, tool_data):
    for name, options in (('a', []), ('b', []), ('c', ['--seed', 1])):
        assert run(FIELD, 'cls.py', tool_data / 'classes', '--size', 64, *options, '--out', f'{name}.png') == 0
    first, again, other = (np.load(f'{name}.npy') for name in 'abc')
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_receptive_field_errors(project, tool_data, checkpoints, capsys):
    def error(*args):
        assert run(FIELD, *args, '--out', 'e.png') == 2
        return one_line(capsys)

    images = tool_data / 'images'
    assert '--size must be at least 32 pixels, got 31' in error('seg.py', images, '--size', 31)
    (project / 'empty').mkdir()
    assert 'image folder empty holds no image' in error('seg.py', 'empty')
    assert 'image folder nowhere does not exist' in error('seg.py', 'nowhere')
    assert 'number of images must be at least 1' in error('seg.py', images, '--images', 0)
    (project / 'empty' / 'a.jpg').write_bytes(b'text')
    assert 'image empty/a.jpg cannot be read' in error('seg.py', 'empty', '--size', 64)
    assert 'nowhere.pth does not exist' in error('seg.py', images, '--checkpoint', 'nowhere.pth')
    narrow = ['--cfg-options', 'model.backbone.in_channels=4']
    assert 'takes images (N, 4, H, W)' in error('seg.py', images, '--size', 64, *narrow)
    (project / 'other.py').write_text(
        "default_scope = 'mmpretrain'\n"
        "model = dict(type='ImageClassifier', backbone=dict(type='ConvNeXt', arch='atto', in_channels=4))\n"
    )
    assert 'the backbone of other.py fails on an image of 64 pixels: ' in error('other.py', images, '--size', 64)
    assert not list(project.glob('e.*'))

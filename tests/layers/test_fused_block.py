"""The fused path of a block, in Triton's interpreter or on a GPU: the same block, whatever surrounds it."""

import copy

import pytest
import torch
from torch import nn

from pelk_mm.layers import DepthwiseConv, DilatedReparamConv, LargeKernelBlock, PeripheralConv2d, StripeConv
from pelk_mm.layers import block as block_module
from pelk_mm.ops import layout, set_backend
from pelk_mm.ops.backends import choice

pytest.importorskip('triton', '3.0', 'Triton 3.0 is not installed')

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
CHANNELS = 13
CFG = {'norm_cfg': {'type': 'LN2d', 'eps': 1e-6}, 'act_cfg': {'type': 'GELU'}}
MIXERS = {
    'peripheral': lambda: PeripheralConv2d(CHANNELS, 7, central_size=3, small_kernel=3),
    'all convolved': lambda: PeripheralConv2d(CHANNELS, 7, central_size=3, conv_ratio=1.0, small_kernel=None),
    'visible h': lambda: PeripheralConv2d(CHANNELS, 7, central_size=3, small_kernel=3, pos_embed='visible'),
    'bias h': lambda: PeripheralConv2d(CHANNELS, 7, central_size=3, small_kernel=3, pos_embed='bias'),
    'stripe': lambda: StripeConv(CHANNELS, 7, small_kernel=3),
    'dilated': lambda: DilatedReparamConv(CHANNELS, 7, conv_ratio=0.5),
    'depthwise': lambda: DepthwiseConv(CHANNELS, 3, conv_ratio=0.5),
}


@pytest.fixture(autouse=True)
def _by_triton(monkeypatch):
    """The layout ops by Triton; convolutions as ever, since the interpreter is slow."""
    monkeypatch.setattr(layout, 'preference', lambda: choice.preference() or 'triton')
    yield
    set_backend(None)


def make(mixer='peripheral', **kwargs):
    torch.manual_seed(0)
    block = LargeKernelBlock(MIXERS[mixer](), CHANNELS, **{**CFG, 'layer_scale_init_value': 0.5, **kwargs})
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
            nn.init.normal_(norm.running_mean)
        if isinstance(norm, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    return block.to(DEVICE)


def embedding(block):
    mixer = block.mixer
    if getattr(mixer, 'pos_embed', None) is None:
        return None
    generator = torch.Generator().manual_seed(5)
    return torch.randn(mixer.conv_channels, 7, 7, generator=generator).to(DEVICE).requires_grad_()


def image(*shape, dtype=torch.float32, seed=1):
    x = torch.randn(shape or (2, CHANNELS, 6, 5), generator=torch.Generator().manual_seed(seed))
    return x.to(DEVICE, dtype).contiguous(memory_format=torch.channels_last)


class Counted:
    """Counts the fused calls of a block; with ``fused`` False there are none."""

    def __init__(self, monkeypatch, fused):
        self.calls = 0
        kept = block_module.join_norm

        def join_norm(*args):
            self.calls += 1
            return kept(*args)

        monkeypatch.setattr(block_module, 'join_norm', join_norm)
        if not fused:
            monkeypatch.setattr(LargeKernelBlock, 'fused_refusal', lambda self, x: 'not now')


def step(block, x, dtype=None):
    """Output, gradients of x, h and all parameters, and buffers after a step."""
    x, h = x.detach().requires_grad_(), embedding(block)
    torch.manual_seed(2)
    with torch.autocast(DEVICE, dtype, enabled=dtype is not None):
        out = block(x, h)
    out.backward(image(*out.shape, dtype=out.dtype, seed=3))
    result = {'output': out.detach(), 'x': x.grad, 'h': None if h is None else h.grad}
    result |= {name: p.grad for name, p in block.named_parameters()} | dict(block.named_buffers())
    return result


def compare(monkeypatch, block, x=None, dtype=None, rtol=1e-4, atol=1e-4, calls=1):
    """A step on both paths; the fused one's result."""
    x, plain = image() if x is None else x, copy.deepcopy(block)
    counted = Counted(monkeypatch, fused=True)
    ours = step(block, x, dtype)
    assert counted.calls == calls
    with monkeypatch.context() as patch:
        assert Counted(patch, fused=False).calls == 0
        expected = step(plain, x, dtype)
    for name, value in expected.items():
        if value is None:
            assert ours[name] is None, name
            continue
        assert ours[name].dtype == value.dtype, name
        scale = value.abs().max().clamp(min=1.0).item() if value.is_floating_point() and value.numel() else 1.0
        torch.testing.assert_close(
            ours[name], value, rtol=rtol, atol=atol * scale, msg=lambda m, name=name: f'{name}: {m}'
        )
    assert ours['x'].is_contiguous(memory_format=torch.channels_last)
    assert ours['output'].is_contiguous(memory_format=torch.channels_last)
    return ours


@pytest.mark.parametrize('deployed', [False, True])
@pytest.mark.parametrize('mixer', MIXERS)
def test_every_partial_mixer(mixer, deployed, monkeypatch):
    block = make(mixer).train(not deployed)
    if deployed:
        h = embedding(block)
        block.switch_to_deploy(None if h is None else h.detach())
    compare(monkeypatch, block)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype, monkeypatch):
    """Once in half precision with the convolutions' other roundings: planes come in it, and stay so."""
    compare(monkeypatch, make().train(), dtype=dtype, rtol=0.05, atol=0.05)


def test_half_precision_without_autocast(monkeypatch):
    compare(monkeypatch, make().to(torch.bfloat16), image(dtype=torch.bfloat16), rtol=0.1, atol=0.1)


@pytest.mark.parametrize('kwargs', [{'drop_path_rate': 0.5}, {'layer_scale_init_value': 0}], ids=str)
def test_settings(kwargs, monkeypatch):
    compare(monkeypatch, make(**kwargs).train())


def test_checkpointing(monkeypatch):
    compare(monkeypatch, make(with_cp=True, drop_path_rate=0.5).train(), calls=2)


@pytest.mark.parametrize('frozen', ['mixer', 'norm', 'pointwise_conv1', 'mixer.w_theta', 'norm.weight'])
def test_frozen_parts(frozen, monkeypatch):
    block = make().train()
    for name, parameter in block.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    compare(monkeypatch, block)


def test_images_of_another_layout_become_channels_last(monkeypatch):
    block, x = make().eval(), image().contiguous()
    counted = Counted(monkeypatch, fused=True)
    with torch.no_grad():
        out = block(x)
        assert counted.calls == 1
        set_backend('dense')
        expected = block(x)
    assert counted.calls == 1
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_the_planes_are_cast_once(monkeypatch):
    block, seen = make().train(), []
    monkeypatch.setattr(block.mixer, 'branches', lambda x, h: seen.append(x) or x)
    with torch.autocast(DEVICE, torch.bfloat16):
        block(image())
    assert seen[0].dtype == torch.bfloat16
    assert seen[0].is_contiguous()


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_padded_rows(training, dtype, monkeypatch):
    """13 and 52 are no multiples of 8. The same roundings as without padding, but for the order of additions."""
    monkeypatch.setattr(block_module, 'FEWEST_ROWS', 1)
    widths, kept = [], block_module.join_norm
    monkeypatch.setattr(block_module, 'join_norm', lambda *args: widths.append(args[-1]) or kept(*args))
    block = make().train(training)
    padded = step(copy.deepcopy(block), image(), dtype)
    monkeypatch.setattr(block_module, 'FEWEST_ROWS', 1 << 30)
    expected = step(block, image(), dtype)
    assert widths == [16, None]
    for name, value in expected.items():
        if value is not None:
            scale = value.abs().max().item() if value.is_floating_point() else 0.0
            torch.testing.assert_close(padded[name], value, rtol=0.02, atol=0.02 * scale)
    block.pointwise_conv1.register_forward_hook(lambda *_: None)
    assert block._padded_widths(image(2, CHANNELS, 40, 40)) is None


def test_a_hook_keeps_what_it_wants_to_see(monkeypatch):
    counted = Counted(monkeypatch, fused=True)
    for register in ('register_forward_hook', 'register_forward_pre_hook', 'register_full_backward_hook'):
        block, calls = make().train(), []
        getattr(block.mixer, register)(lambda *_, calls=calls: calls.append(1))
        block(image().requires_grad_()).sum().backward()
        assert calls, register
    assert counted.calls == 0
    block, calls = make().train(), []
    for name in ('mixer.norm', 'mixer.small_norm', 'pointwise_conv1', 'act', 'drop_path'):
        block.get_submodule(name).register_forward_hook(lambda *_, calls=calls: calls.append(1))
    block(image())
    assert (counted.calls, len(calls)) == (1, 5)


class Doubled(PeripheralConv2d):
    def forward(self, x, pos_embed=None):
        return 2 * super().forward(x, pos_embed)


def test_refusals():
    block, x = make(), image()
    assert block.fused_refusal(x) is None
    assert make(norm_cfg={'type': 'BN'}).fused_refusal(x).startswith('the norm, BatchNorm2d, is no LayerNorm2d')
    without_bias = LargeKernelBlock(
        MIXERS['peripheral'](), CHANNELS, **{**CFG, 'norm_cfg': {'type': 'LN2d', 'bias': False}}
    )
    assert without_bias.fused_refusal(x) == 'the norm has no weight or no bias'
    assert block.fused_refusal(x.double()) == 'the weights have another dtype or device'
    assert 'float64' in copy.deepcopy(block).double().fused_refusal(x.double())
    other = LargeKernelBlock(Doubled(CHANNELS, 7), CHANNELS, **CFG).to(DEVICE)
    assert other.fused_refusal(x) == 'Doubled does not give its parts'
    block.norm.register_forward_hook(lambda *_: None)
    assert 'a patch wants its call' in block.fused_refusal(x)
    block.mixer.forward = lambda x: x
    assert block.fused_refusal(x) == 'a hook or a patch of the mixer wants its call'
    set_backend('dense')
    assert make().fused_refusal(x) == "the back-end 'dense' is preferred"


def test_graphs_take_the_plain_path():
    block, x = make().eval(), image()
    counted = []
    block_kept = block_module.join_norm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_module, 'join_norm', lambda *args: counted.append(1) or block_kept(*args))
        traced = torch.jit.trace(block, x, check_trace=False)
        exported = torch.export.export(block, (x,)).module()
        torch.func.functional_call(block, dict(block.named_parameters()), x)
        assert len(counted) == 1
        torch.func.grad(lambda t: block(t).sum())(x)
    assert len(counted) == 1
    torch.testing.assert_close(traced(x), block(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(exported(x), block(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('x', 'h', 'message'),
    [
        ('text', None, 'x must have shape .* but got str'),
        (torch.zeros(2, 12, 4, 4), None, r'x must have shape \(N, 13, H, W\), but got \(2, 12, 4, 4\)'),
        (torch.zeros(1, 13, 1, 1), None, 'x must hold more than one pixel for BatchNorm to train on'),
        (torch.zeros(2, 13, 4, 4), torch.zeros(4, 7, 7), 'pos_embed must be None'),
    ],
    ids=['type', 'channels', 'one pixel', 'embedding'],
)
def test_bad_input_is_named_as_ever(x, h, message):
    block = make().train()
    for backend in (None, 'dense'):
        set_backend(backend)
        with pytest.raises(ValueError, match=message):
            block(x.to(DEVICE) if isinstance(x, torch.Tensor) else x, h if h is None else h.to(DEVICE))


def test_the_state_dict_is_the_same():
    assert make().state_dict().keys() == {
        *('gamma', 'norm.weight', 'norm.bias', 'pointwise_conv1.weight', 'pointwise_conv1.bias'),
        *('pointwise_conv2.weight', 'pointwise_conv2.bias', 'mixer.w_theta', 'mixer.small_weight'),
        *(
            f'mixer.{norm}.{name}'
            for norm in ('norm', 'small_norm')
            for name in ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
        ),
    }

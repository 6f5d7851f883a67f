"""A whole net through torch.compile, torch.export, ONNX and torch.jit.trace."""

import copy
import warnings

import pytest
import torch

from pelk_mm.layers import MIXERS
from pelk_mm.models import OverLoCK, PeLK, UniConvNet, WBMMNet, WTConvNeXt
from pelk_mm.utils.compat import HAS_LIBRARY

if not HAS_LIBRARY:
    pytest.skip('needs torch 2.5: ops that graphs can take', allow_module_level=True)

from torch.export import Dim

TINY = {'depths': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)}


def make(deployed=False, **kwargs):
    torch.manual_seed(0)
    net = PeLK(TINY, **{'kernel_sizes': (13, 11, 9, 7), 'layer_scale_init_value': 1.0, **kwargs})
    net(images(64, 64))  # statistics for the BatchNorms
    net.eval()
    if deployed:
        net.switch_to_deploy()
    return net


def images(height, width, dtype=torch.float32):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height)).to(dtype)


def assert_close(actual, expected, tolerance=1e-4):
    """To ``tolerance`` of the largest value of each output."""
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=tolerance * e.abs().max().item())


# --- torch.compile ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize('kwargs', [{}, {'with_cp': True}], ids=['plain', 'cp'])
def test_compiled_training(kwargs):
    torch._dynamo.reset()
    net = make(**kwargs).train()
    twin = copy.deepcopy(net)
    compiled = torch.compile(twin, fullgraph=True, backend='aot_eager')
    for _ in range(2):
        for each in (net, compiled):
            each(images(64, 96))[0].square().sum().backward()
    for (name, a), b in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5 * a.grad.abs().max().item(), msg=name)
    for (name, a), b in zip(net.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(b, a, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize('mixer', MIXERS)
def test_compiled_deployed_evaluation(mixer):
    torch._dynamo.reset()
    net = make(deployed=True, mixer=mixer)
    compiled = torch.compile(net, fullgraph=True, backend='aot_eager')
    with torch.no_grad():
        assert_close(compiled(images(64, 64)), net(images(64, 64)))
        for parameter in net.stages[0][0].mixer.parameters():
            parameter.data.mul_(1.5)  # no cached map stands in the graph
        assert_close(compiled(images(64, 64)), net(images(64, 64)))


@pytest.mark.slow
@pytest.mark.parametrize('mixer', MIXERS)
def test_compiled_mixers_take_maps_of_all_sizes(mixer):
    torch._dynamo.reset()
    net = make(mixer=mixer)
    layer, h = net.stages[3][0].mixer, net.stage_extras(3)
    graphs = []
    compiled = torch.compile(layer, fullgraph=True, backend=lambda graph, _: graphs.append(graph) or graph)
    with torch.no_grad():
        for size in ((9, 10), (12, 8), (33, 41)):  # larger than a window
            x = torch.randn(2, layer.channels, *size)
            for dimension in (2, 3):
                torch._dynamo.mark_dynamic(x, dimension)
            torch.testing.assert_close(compiled(x, *h), layer(x, *h))
    assert len(graphs) == 1


# --- torch.export -----------------------------------------------------------------------------------------------------


def export(net, dtype=torch.float32, named=True):
    sides = (Dim('H', min=64), Dim('W', min=64)) if named else (Dim.DYNAMIC(min=64), Dim.DYNAMIC(min=64))
    sizes = {2: sides[0], 3: sides[1]}
    with torch.no_grad():
        return torch.export.export(net, (images(96, 128, dtype),), dynamic_shapes=(sizes,))


@pytest.mark.slow
@pytest.mark.parametrize('deployed', [False, True], ids=['training-form', 'deployed'])
def test_exported_for_all_sizes(deployed):
    net = make(deployed, kernel_sizes=(51, 11, 9, 7), out_indices=(0, 3), gap_before_final_norm=False)
    program = export(net)
    assert not [node for node in program.graph.nodes if 'pelk_mm' in str(node.target)]
    with torch.no_grad():
        for size in ((96, 128), (77, 210), (64, 64)):
            assert_close(program.module()(images(*size)), net(images(*size)))


@pytest.mark.slow
def test_exported_branches_agree_on_their_layout():
    """The branches of the dilated mixer are not all computed by a back-end, and none may tie the graph to a size."""
    net = make(mixer='dilated', kernel_sizes=(5, 5, 5, 5), width_factor=1.0)
    program = export(net)
    with torch.no_grad():
        assert_close(program.module()(images(77, 210)), net(images(77, 210)))


@pytest.mark.slow
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_exported_in_half_precision(dtype):
    net = make(deployed=True).to(dtype)
    program = export(net, dtype, named=False)
    with torch.no_grad():
        for size in ((96, 128), (77, 90)):
            x = images(*size, dtype)
            assert_close(program.module()(x), net(x), tolerance=0.02)


# --- ONNX -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_onnx_file_for_all_sizes(tmp_path):
    """What docs/guide/deploying.md says, down to images of the smallest size."""
    pytest.importorskip('onnx', reason='onnx is not installed')
    pytest.importorskip('onnxscript', reason='onnxscript is not installed')
    runtime = pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    net = make(deployed=True, kernel_sizes=(51, 11, 9, 7), out_indices=(0, 3), gap_before_final_norm=False)
    path = str(tmp_path / 'net.onnx')
    sizes = {2: Dim('H', min=64), 3: Dim('W', min=64)}
    with torch.no_grad():
        torch.onnx.export(
            net,
            (images(96, 128),),
            path,
            dynamo=True,
            dynamic_shapes=(sizes,),
            input_names=['images'],
            external_data=False,
            verbose=False,
        )
    session = runtime.InferenceSession(path, providers=['CPUExecutionProvider'])
    with torch.no_grad():
        for size in ((96, 128), (77, 210), (64, 64), (32, 32)):
            x = images(*size)
            assert_close([torch.from_numpy(out) for out in session.run(None, {'images': x.numpy()})], net(x))


# --- torch.jit.trace --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('mixer', MIXERS)
def test_traced(mixer):
    net = make(deployed=True, mixer=mixer)
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        net(images(64, 96))  # an eager call may cache h's map: the trace must not take it for a constant
        traced = torch.jit.trace(net, images(64, 96))
    frozen = [str(w.message) for w in caught if issubclass(w.category, torch.jit.TracerWarning)]
    assert not [message for message in frozen if 'to a Python boolean' not in message]  # but the checks of arguments
    with torch.no_grad():
        for size in ((64, 96), (96, 75)):
            assert_close(traced(images(*size)), net(images(*size)))


def test_mmengine_counts_a_net():
    from mmengine.analysis import get_model_complexity_info

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        counts = get_model_complexity_info(make(deployed=True), (3, 64, 64), show_table=False, show_arch=False)
    assert counts['params'] > 0
    assert counts['flops'] > 0


SMALL = {'depths': (1, 1, 1, 1), 'channels': (16, 16, 32, 32)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ('network', 'kwargs'),
    [
        (WTConvNeXt, {'wavelet_levels': (2, 2, 1, 1)}),
        (WBMMNet, {}),
        (UniConvNet, {}),
        (OverLoCK, {'focus_heads': (2, 2)}),
    ],
)
def test_nets_that_export_for_one_size(network, kwargs):
    torch.manual_seed(0)
    net = network(SMALL, **kwargs).eval()
    net.switch_to_deploy()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # traced checks of shapes
        program = torch.export.export(net, (images(96, 128),))
        assert not [node for node in program.graph.nodes if 'pelk_mm' in str(node.target)]
        assert_close(program.module()(images(96, 128)), net(images(96, 128)))
        traced = torch.jit.trace(net, images(96, 128), check_trace=False)
        for size in ((96, 128), (160, 160)):
            assert_close(traced(images(*size)), net(images(*size)))

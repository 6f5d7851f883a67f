"""A whole net under what training and serving code does to modules."""

import copy
import io

import pytest
import torch
from children import LIMIT
from forked import context
from torch import distributed
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

from pelk_mm.models import PeLK

TINY = {'depths': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)}


def make(**kwargs):
    torch.manual_seed(0)
    return PeLK(TINY, **{'kernel_sizes': (13, 11, 9, 7), 'layer_scale_init_value': 1.0, **kwargs})


def images(batch=2, size=64):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(size))


def gradients(net, x, autocast=False):
    """Gradients of a mean over the batch, by name."""
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=autocast):
        (out,) = net(x)
    (out.float() if autocast else out).square().sum(1).mean().backward()
    grads = {name: parameter.grad.clone() for name, parameter in net.named_parameters()}
    net.zero_grad()
    return grads


def test_autocast_in_bfloat16():
    net, x = make().train(), images()
    exact, rounded = gradients(net, x), gradients(net, x, autocast=True)
    for name, grad in exact.items():
        assert rounded[name].dtype == torch.float32
        error = (rounded[name] - grad).norm() / grad.norm()
        assert error < 0.1, f'{name}: {error}'


def test_deterministic_algorithms():
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (gradients(copy.deepcopy(net), images()) for net in [make().train()] * 2)
    finally:
        torch.use_deterministic_algorithms(False)
    for name, grad in first.items():
        assert torch.equal(second[name], grad), name


def test_gradients_by_function_transform():
    """torch.func has no way through the library's ops: the net takes another back-end meanwhile."""
    net, x = make(norm_eval=True).double().train(), images(size=96).double()
    expected = gradients(net, x)
    parameters = {name: parameter.detach() for name, parameter in net.named_parameters()}

    def loss(parameters):
        (out,) = functional_call(net, parameters, (x,))
        return out.square().sum(1).mean()

    for name, grad in torch.func.grad(loss)(parameters).items():
        assert (grad - expected[name]).norm() < 1e-9 * expected[name].norm(), name


def test_an_ensemble_by_vmap():
    """Deployed nets of one architecture in one call: what a mixer keeps of one must not serve the others."""
    net, x = make().eval(), images()
    net.switch_to_deploy()
    names = dict(net.named_parameters())
    ensemble = {name: torch.stack([p.detach(), 0.5 * p.detach()]) for name, p in names.items()}
    with torch.no_grad():
        (outs,) = torch.vmap(lambda parameters: functional_call(net, parameters, (x,)))(ensemble)
        for i, out in enumerate(outs):
            own = {name: stacked[i] for name, stacked in ensemble.items()}
            torch.testing.assert_close(out, functional_call(net, own, (x,))[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('deployed', [False, True], ids=['training-form', 'deployed'])
def test_training_after_inference_mode(deployed):
    """What a mixer keeps from an evaluation is no inference tensor that autograd refuses to save."""
    net, x = make().eval(), images()
    if deployed:
        net.switch_to_deploy()
    with torch.inference_mode():
        net(x)
    twin = copy.deepcopy(net)
    with torch.no_grad():
        net(x)
    for each in (net, twin):
        assert all(grad.isfinite().all() for grad in gradients(each, x).values())
        assert all(grad.isfinite().all() for grad in gradients(each.train(), x).values())


@pytest.mark.parametrize('deployed', [False, True], ids=['training-form', 'deployed'])
def test_copies_and_whole_module_files(deployed):
    net, x = make().eval(), images()
    if deployed:
        net.switch_to_deploy()
    with torch.no_grad():
        (expected,) = net(x)  # caches h's maps, which copies may carry along
        file = io.BytesIO()
        torch.save(net, file)
        file.seek(0)
        for other in (copy.deepcopy(net), torch.load(file, weights_only=False)):
            assert torch.equal(other(x)[0], expected)
            for parameter in other.parameters():
                parameter.zero_()
            assert not torch.equal(other(x)[0], expected)
        assert torch.equal(net(x)[0], expected)


def _train_one_of_two(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2)
    try:
        net = DistributedDataParallel(make(norm_eval=True).train())
        grads = gradients(net, images(4)[2 * rank :][:2])
        torch.save({name.removeprefix('module.'): grad for name, grad in grads.items()}, f'{folder}/{rank}.pt')
    finally:
        distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.processes
def test_two_processes_have_the_gradients_of_one(tmp_path):
    pair = [context().Process(target=_train_one_of_two, args=(rank, str(tmp_path))) for rank in (0, 1)]
    for process in pair:
        process.start()
    try:
        for process in pair:
            process.join(LIMIT)
    finally:
        for process in pair:
            process.kill()
            process.join()
    assert [process.exitcode for process in pair] == [0, 0]
    expected = gradients(make(norm_eval=True).train(), images(4))
    for rank in (0, 1):
        for name, grad in torch.load(tmp_path / f'{rank}.pt').items():
            scale = expected[name].abs().max().item()
            torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-5 * scale, msg=name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='CUDA graphs need a GPU')
def test_cuda_graph_of_a_deployed_net():
    net = make(kernel_sizes=(51, 49, 47, 13)).cuda().eval()
    net.switch_to_deploy()
    x, other = images().cuda(), images(size=96)[:, :, :64, :64].cuda()
    with torch.no_grad():
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                net(x)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            (out,) = net(x)
        x.copy_(other)
        graph.replay()
        torch.testing.assert_close(out, net(other)[0])

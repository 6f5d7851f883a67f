import argparse
import os
import re
from pathlib import Path

import authors_nets as authors
import pytest
import torch
from authors_cases import CASES, TINY, converter

from pelk_mm.checkpoints.reading import read_checkpoint
from pelk_mm.converters.convert_weights import convert_weights, describe
from pelk_mm.models import ShiftWiseNet
from pelk_mm.utils.errors import CheckpointError, ConfigError, OutputError


@pytest.fixture
def convert(tmp_path):
    return converter(tmp_path)


class TestReading:
    state = authors.convnext_state(*TINY)

    @pytest.mark.parametrize('entry', ['state_dict', 'model', 'state_dict_ema', 'model_ema', None])
    @pytest.mark.parametrize('prefix', ['', 'module.'])
    def test_places_and_prefixes(self, convert, entry, prefix):
        weights = {prefix + key: value for key, value in self.state.items()}
        arguments = argparse.Namespace(lr=4e-3, model='convnext', drop=None, betas=[0.9, 0.999])
        done, checkpoint = convert('convnext', weights if entry is None else {entry: weights, 'args': arguments})
        assert done.entry == entry
        assert torch.equal(checkpoint['state_dict']['head.fc.bias'], self.state['head.bias'])

    def test_the_entry_can_be_chosen(self, convert):
        averaged = {key: value + 1 for key, value in self.state.items()}
        content = {'model': self.state, 'model_ema': averaged}
        done, checkpoint = convert('convnext', content)
        assert torch.equal(checkpoint['state_dict']['head.fc.bias'], self.state['head.bias'])
        assert 'keys of model (--entry model_ema would read others)' in describe(done)[0]
        done, checkpoint = convert('convnext', content, entry='model_ema')
        assert torch.equal(checkpoint['state_dict']['head.fc.bias'], averaged['head.bias'])
        assert checkpoint['meta']['entry'] == 'model_ema'
        with pytest.raises(CheckpointError, match='has no entry state_dict; it has model, model_ema'):
            convert('convnext', content, entry='state_dict')

    def test_a_namespace_opens_no_door(self, convert, tmp_path):
        class Payload:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / 'ran'),)

        with pytest.raises(CheckpointError, match=r'refused: .*posix.mkdir'):
            convert('convnext', {'model': self.state, 'args': argparse.Namespace(hidden=Payload())})
        assert not (tmp_path / 'ran').exists()
        with pytest.raises(CheckpointError, match=r'refused: .*argparse.Namespace'):
            read_checkpoint(tmp_path / 'authors.pth')  # allowed while converting alone

    def test_other_content(self, convert):
        for content, message in (
            ([1, 2], 'holds a list'),
            ({'epoch': 3, 'lr': 0.1}, 'holds no state dict: epoch, lr is no weight'),
            ({'model': {}}, 'holds no state dict'),
            ({'model': {**self.state, 'note': 'text'}}, 'note is no weight'),
        ):
            with pytest.raises(CheckpointError, match=message):
                convert('convnext', content)

    def test_values_that_are_no_weights(self, convert, tmp_path):
        bias = self.state['head.bias']
        for value, message in (
            (bias.to(torch.complex64), 'is of type torch.complex64'),
            (bias > 0, 'is of type torch.bool'),
            (bias[:0], r'is empty, \(0,\)'),
            (bias * torch.nan, 'holds values that are not finite'),
            (bias / torch.zeros(3), 'holds values that are not finite'),
            (bias.double() * 1e200, 'holds values that are not finite in float32'),
        ):
            with pytest.raises(CheckpointError, match=f'authors.pth cannot be converted: head.bias {message}'):
                convert('convnext', {**self.state, 'head.bias': value})
        for value in (torch.quantize_per_tensor(bias, 0.1, 0, torch.qint8), bias.to_sparse(), bias.to('meta')):
            with pytest.raises(CheckpointError, match=r'is refused: .* would use torch._utils._rebuild_'):
                convert('convnext', {**self.state, 'head.bias': value})
        state = {**CASES['replknet'][1], 'stages.0.blocks.0.prelkb_bn.weight': torch.ones(0)}
        with pytest.raises(CheckpointError, match='stages.0.blocks.0.prelkb_bn.weight is empty'):
            convert('replknet', state)
        assert not (tmp_path / 'ours.pth').exists()
        done, _ = convert('convnext', {**self.state, 'extra': torch.tensor(torch.nan)}, ignore='extra')
        assert done.read == len(self.state)

    def test_global_generators_stay(self, convert):
        torch.manual_seed(3)
        before = torch.get_rng_state()
        for name in ('shiftwise', 'inceptionnext', 'convnext'):
            convert(CASES[name][0], CASES[name][1])
        assert torch.equal(torch.get_rng_state(), before)

    def test_no_more_than_the_weights_is_written(self, convert, tmp_path):
        large = torch.randn(1000, 1000)
        state = {**self.state, 'head.bias': large[0, :3]}
        convert('convnext', state)
        size = sum(value.numel() for value in self.state.values()) * 4
        assert (tmp_path / 'ours.pth').stat().st_size < size + 100_000


class TestStrictness:
    def error(self, convert, family, state, **kwargs):
        with pytest.raises(CheckpointError) as caught:
            convert(family, state, **kwargs)
        return str(caught.value)

    def test_another_family(self, convert, tmp_path):
        for family, (_, state, _, _) in (
            ('slak', CASES['convnext']),
            ('convnext', CASES['slak']),
            ('unireplknet', CASES['shiftwise']),
            ('shiftwise', CASES['unireplknet']),
            ('inceptionnext', CASES['convnext']),
            ('replknet', CASES['slak']),
            ('convnext-to-pelk', CASES['inceptionnext']),
        ):
            message = self.error(convert, family, state)
            assert f'of family {family}' in message
            named = re.findall(r'(?:missing|unused|shape): (?:what is )?([\w.]+)', message)
            assert named, message
            assert all(key in state or key.startswith(('backbone.', 'stages.')) for key in named), named
            assert '\n' not in message
        assert not (tmp_path / 'ours.pth').exists()

    def test_another_variant(self, convert):
        state = dict(CASES['shiftwise'][1])
        message = self.error(convert, 'shiftwise', state, backbone_options={'kernel_sizes': (31, 49, 47, 13)})
        assert 'of another shape: stages.0.0.large_kernel.LoRAs.0.weight, ' in message
        assert '(102, 1, 3, 3) for (2, 6, 11, 3, 3)' in message
        assert message.endswith('kernel_sizes or edges needs --backbone-options kernel_sizes=... edges=...')
        message = self.error(convert, 'shiftwise', state, backbone_options={'ghost_ratio': 0.0})
        assert 'large_kernel.bn_lora1.bias (6,) for (8,)' in message
        del state['stages.1.1.large_kernel.LoRAs.1.weight']
        assert 'of another shape: stages.1.1.large_kernel.LoRAs.0.weight ' in self.error(convert, 'shiftwise', state)

    def test_unused_missing_and_ignored(self, convert):
        state = {**CASES['slak'][1], 'stages.0.0.extra.weight': torch.ones(1), 'tokens': torch.ones(1)}
        assert 'unused: stages.0.0.extra.weight, tokens' in self.error(convert, 'slak', state)
        assert 'unused: tokens' in self.error(convert, 'slak', state, ignore=r'stages\..*\.extra\..*')
        done, _ = convert('slak', state, ignore=r'.*extra.*|tokens')
        assert sorted(done.ignored) == ['stages.0.0.extra.weight', 'tokens']
        assert 'ignored: ' in '\n'.join(describe(done))
        state = dict(CASES['slak'][1])
        del state['stages.1.0.large_kernel.LoRA2.bn.running_var'], state['head.bias']
        message = self.error(convert, 'slak', state)
        assert 'missing: stages.1.0.large_kernel.LoRA2.bn.running_var, head.bias' in message
        with pytest.raises(ConfigError, match=r'--ignore .* is no regular expression'):
            convert('slak', state, ignore='(')

    def test_the_classifier_fits_the_backbone(self, convert):
        for name, key, shape, message in (
            ('convnext', 'head.weight', (3, 25), 'of another shape: head.weight (3, 25) for (3, 24)'),
            ('replknet', 'head.weight', (3, 25), 'of another shape: head.weight (3, 25) for (3, 24)'),
            ('inceptionnext', 'head.fc2.weight', (3, 24), 'of another shape: head.fc2.weight (3, 24) for (3, 72)'),
            ('inceptionnext', 'head.fc1.weight', (72, 25), 'of another shape: head.fc1.weight (72, 25) for (72, 24)'),
            ('inceptionnext', 'head.fc1.weight', None, 'missing: head.fc1.weight'),
            ('inceptionnext', 'head.fc2.weight', None, 'unused: head.fc1.bias, '),
        ):
            family, state, _, _ = CASES[name]
            state = {**state, key: None if shape is None else torch.ones(shape)}
            assert message in self.error(convert, family, {k: v for k, v in state.items() if v is not None})

    def test_numbers_of_blocks_are_counted(self, convert):
        state = {**CASES['convnext'][1], 'stages.2.99999999999.gamma': torch.ones(16)}
        assert 'missing: stages.2.1.gamma, stages.2.1.dwconv.weight' in self.error(convert, 'convnext', state)

    def test_two_keys_for_one_place(self, convert):
        state = CASES['slak'][1]
        twice = {key.replace('LoRA1', 'Decom1'): value for key, value in state.items() if '0.0.large_kernel' in key}
        assert 'unused: stages.0.0.large_kernel.LoRA1' in self.error(convert, 'slak', {**state, **twice})

    def test_a_count_of_batches_may_be_missing(self, convert):
        family, state, _, _ = CASES['shiftwise']
        state = {key: value for key, value in state.items() if not key.endswith('num_batches_tracked')}
        _, checkpoint = convert(family, state)
        counts = [value for key, value in checkpoint['state_dict'].items() if key.endswith('num_batches_tracked')]
        assert counts
        assert not any(count.item() for count in counts)

    def test_tables_come_from_the_network(self, convert):
        done, checkpoint = convert('shiftwise', CASES['shiftwise'][1])
        net = ShiftWiseNet(**{key: value for key, value in done.model['backbone'].items() if key != 'type'})
        tables = {key: value for key, value in net.state_dict().items() if value.dtype == torch.int32}
        assert len(tables) == 5 * sum(TINY[0])
        assert all(torch.equal(checkpoint['state_dict'][f'backbone.{key}'], value) for key, value in tables.items())

    def test_arguments(self, convert, tmp_path):
        with pytest.raises(ConfigError, match=r"family must be one of shiftwise, .*but got 'resnet'"):
            convert('resnet', CASES['slak'][1])
        with pytest.raises(ConfigError, match='cannot build the network .*edgs'):
            convert('shiftwise', CASES['shiftwise'][1], backbone_options={'edgs': 1})
        convert('slak', CASES['slak'][1])
        with pytest.raises(OutputError, match='pass --overwrite'):
            convert_weights('slak', tmp_path / 'authors.pth', tmp_path / 'ours.pth')


@pytest.mark.parametrize('name', CASES)
def test_a_path_among_the_arguments_and_safetensors(convert, tmp_path, name):
    """As the authors' job scripts save it, and as hubs keep it: the same weights, bit by bit."""
    tensors = pytest.importorskip('safetensors.torch', reason='safetensors is not installed')
    family, state, _, kwargs = CASES[name]
    _, checkpoint = convert(family, {'model': state, 'args': argparse.Namespace(output_dir=Path('run'))}, **kwargs)
    tensors.save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / 'authors.safetensors')
    convert_weights(family, tmp_path / 'authors.safetensors', tmp_path / 'other.pth', **kwargs)
    other = read_checkpoint(tmp_path / 'other.pth')
    assert other['meta']['model'] == checkpoint['meta']['model']
    assert tensors.save(other['state_dict']) == tensors.save(checkpoint['state_dict'])


def test_a_file_without_its_head_says_so(convert):
    state = {key: value for key, value in CASES['slak'][1].items() if not key.startswith('head.')}
    done, _ = convert('slak', state)
    assert describe(done)[-1].startswith('head: the file has none')
    done, _ = convert('slak', CASES['slak'][1])
    assert not any(line.startswith('head: the file') for line in describe(done))


def test_a_page_under_the_name_of_a_checkpoint(tmp_path):
    (tmp_path / 'authors.pth').write_text('<!DOCTYPE html><html><body>Sign in</body></html>')
    with pytest.raises(CheckpointError, match='authors.pth is an HTML page, not a checkpoint'):
        convert_weights('slak', tmp_path / 'authors.pth', tmp_path / 'ours.pth')
    assert not (tmp_path / 'ours.pth').exists()

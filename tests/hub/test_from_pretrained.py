"""Weights by name: folders that were published here, hubs, and what authors publish."""

import json
import os
import re
import sys
from pathlib import Path

import authors_nets as authors
import children
import pytest
import torch
from authors_cases import CASES, TINY
from loopback import serving
from mmengine.registry import MODELS

import pelk_mm
from pelk_mm.checkpoints.reading import read_checkpoint
from pelk_mm.converters.convert_weights import convert_weights
from pelk_mm.hub import published
from pelk_mm.hub.model_folder import CARD, CONFIG, SUMS, WEIGHTS
from pelk_mm.hub.publish import Card, publish_model
from pelk_mm.hub.published import PUBLISHED, Published
from pelk_mm.models import SLaK
from pelk_mm.utils.errors import CheckpointError, ConfigError, OutputError

tensors = pytest.importorskip('safetensors.torch', reason='safetensors is not installed')
CARD_ENTRIES = Card(
    'mit', 'made-up numbers', 'none: random numbers', ('top-1=0.1',), 'python tools/test.py CONFIG FILE'
)
MAPS = {'out_indices': (0, 1, 2, 3), 'gap_before_final_norm': False}


def images():
    return torch.randn(2, 3, 64, 75, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def converted(tmp_path):
    torch.save(CASES['slak'][1], tmp_path / 'authors.pth')
    convert_weights('slak', tmp_path / 'authors.pth', tmp_path / 'ours.pth')
    return tmp_path / 'ours.pth'


@pytest.fixture
def folder(converted, tmp_path):
    return publish_model(converted, tmp_path / 'slak_toy', CARD_ENTRIES)


@pytest.fixture
def direct(converted):
    """The net of the folder, built and filled by hand."""
    content = read_checkpoint(converted)
    net = MODELS.build(content['meta']['model']['backbone'])
    state = {key.removeprefix('backbone.'): value for key, value in content['state_dict'].items()}
    net.load_state_dict({key: value for key, value in state.items() if not key.startswith('head.')})
    return net.eval()


@torch.no_grad()
def features(net):
    return net(images())


def test_what_is_in_a_folder(folder, converted):
    assert sorted(path.name for path in folder.iterdir()) == sorted((CONFIG, WEIGHTS, CARD, SUMS))
    config = json.loads((folder / CONFIG).read_text())
    assert config['model']['backbone']['type'] == 'pelk_mm.SLaK'
    assert config['model']['head']['num_classes'] == 3
    stored = tensors.load_file(folder / WEIGHTS)
    assert all(torch.equal(stored[key], value) for key, value in read_checkpoint(converted)['state_dict'].items())
    card = (folder / CARD).read_text()
    assert card.startswith('---\nlicense: mit\nlibrary_name: pelk_mm\n')
    for text in ('# slak_toy', 'made-up numbers', 'none: random numbers', '| top-1 | 0.1 |', 'python tools/test.py'):
        assert text in card


def test_every_way_to_load_gives_the_same(folder, direct, monkeypatch):
    expected = features(direct)
    net = pelk_mm.from_pretrained(folder)
    assert isinstance(net, SLaK)
    assert not net.training
    assert torch.equal(features(net)[0], expected[0])
    start = {'type': 'Pretrained', 'checkpoint': str(folder / WEIGHTS), 'prefix': 'backbone.'}
    by_config = MODELS.build({**json.loads((folder / CONFIG).read_text())['model']['backbone'], 'init_cfg': start})
    by_config.init_weights()
    assert torch.equal(features(by_config.eval())[0], expected[0])


def test_timm_loads_it_too(folder, direct):
    timm = pytest.importorskip('timm', reason='timm is not installed')
    import pelk_mm.hub.timm

    backbone = json.loads((folder / CONFIG).read_text())['model']['backbone']
    options = {key: value for key, value in backbone.items() if key != 'type'}
    overlay = {'file': str(folder / WEIGHTS), 'num_classes': 3}
    net = timm.create_model('slak_tiny', pretrained=True, pretrained_cfg_overlay=overlay, num_classes=3, **options)
    with torch.no_grad():
        hidden = net.eval().forward_head(net.forward_features(images()), pre_logits=True)
        torch.testing.assert_close(hidden, features(direct)[0])
        head = tensors.load_file(folder / WEIGHTS)
        logits = hidden @ head['head.fc.weight'].T + head['head.fc.bias']
        torch.testing.assert_close(net(images()), logits)
    assert pelk_mm.hub.timm.NAMES


def test_options_replace_stored_ones(folder):
    maps = features(pelk_mm.from_pretrained(folder, **MAPS))
    assert [tuple(map_.shape[1:]) for map_ in maps] == [(8, 16, 18), (12, 8, 9), (16, 4, 4), (24, 2, 2)]
    with pytest.raises(ConfigError, match='the backbone of .*slak_toy'):
        pelk_mm.from_pretrained(folder, depth=50)
    with pytest.raises(CheckpointError, match='of another shape'):
        pelk_mm.from_pretrained(folder, kernel_sizes=(31, 29, 27, 13))


def test_what_was_altered_or_cut_off(folder):
    weights = (folder / WEIGHTS).read_bytes()
    for data in (weights[:-1], weights[:-1] + bytes([weights[-1] ^ 1])):
        (folder / WEIGHTS).write_bytes(data)
        with pytest.raises(CheckpointError, match='model.safetensors was altered or cut off: its SHA-256'):
            pelk_mm.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match='model.safetensors is missing, but SHA256SUMS names it'):
        pelk_mm.from_pretrained(folder)
    (folder / SUMS).unlink()
    with pytest.raises(CheckpointError, match='model.safetensors does not exist'):
        pelk_mm.from_pretrained(folder)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{', 'config.json is no JSON'),
        ('{"format": 2}', 'config.json is not of format 1'),
        ('{"format": 1, "model": {"head": {}}}', 'names no model with a backbone'),
        ('{"format": 1, "model": {"backbone": {"type": "torch.nn.Linear"}}}', 'none of this package'),
        (
            '{"format": 1, "model": {"backbone": {"type": "pelk_mm.PeLK", "init_cfg": {"type": "Pretrained"}}}}',
            'would load another file',
        ),
        ('{"format": 1, "model": {"backbone": {"type": "pelk_mm.PeLK", "arch": "huge"}}}', 'arch must be one of'),
    ],
)
def test_a_config_that_cannot_be(folder, content, message):
    (folder / SUMS).unlink()
    (folder / CONFIG).write_text(content)
    with pytest.raises((CheckpointError, ConfigError), match=message):
        pelk_mm.from_pretrained(folder)


def test_unknown_names(monkeypatch):
    with pytest.raises(ConfigError, match="is called 'unireplknet_tinny.in1k'; near: unireplknet_tiny.in1k"):
        pelk_mm.from_pretrained('unireplknet_tinny.in1k')
    with pytest.raises(ConfigError, match='have no address of their own: download them from'):
        pelk_mm.from_pretrained('slak_tiny.in1k')
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ConfigError, match=r'needs huggingface_hub: pip install "pelk_mm\[hub\]"'):
        pelk_mm.from_pretrained('owner/repo')


def test_what_authors_publish_is_fetched_and_converted(tmp_path, monkeypatch):
    state = authors.inceptionnext_state(*TINY)
    torch.save(state, tmp_path / 'authors.pth')
    with serving() as server:
        server.files['/toy.pth'] = (tmp_path / 'authors.pth').read_bytes()
        monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'cache'))
        toy = Published('inceptionnext', f'{server.address}/toy.pth', 'https://example.org', 'MIT')
        monkeypatch.setitem(published.PUBLISHED, 'toy.in1k', toy)
        net = pelk_mm.from_pretrained('toy.in1k', **MAPS)
    assert torch.equal(net.downsample_layers[0][0].weight, state['stem.0.weight'])
    assert not net.training


def test_published_names_have_families_and_addresses():
    from pelk_mm.converters.families import FAMILIES

    assert len(PUBLISHED) >= 30
    for name, entry in PUBLISHED.items():
        assert entry.family in FAMILIES, name
        assert not entry.source or re.fullmatch(r'(https://|hf://[\w-]+/[\w-]+/)\S+\.pth', entry.source), name


FROM_HUB = """
import pelk_mm
from pelk_mm.utils.errors import UserError
print(type(pelk_mm.from_pretrained('owner/repo')).__name__)
try:
    pelk_mm.from_pretrained('owner/none')
except UserError as error:
    print('refused:', error)
"""


@pytest.mark.processes
def test_a_folder_on_a_hub(folder, tmp_path):
    pytest.importorskip('huggingface_hub', reason='huggingface_hub is not installed')
    with serving() as server:
        server.files.update({f'/owner/repo/{path.name}': path.read_bytes() for path in folder.iterdir()})
        env = {**os.environ, 'HF_ENDPOINT': server.address, 'HF_HOME': str(tmp_path), 'HF_HUB_DISABLE_XET': '1'}
        done = children.run([sys.executable, '-c', FROM_HUB], env=env)
    assert done.returncode == 0, done.stderr
    kind, refused = done.stdout.splitlines()[-2:]
    assert kind == 'SLaK'
    assert refused.startswith('refused: hf://owner/none/config.json cannot be had: ')


class TestPublishing:
    def test_a_checkpoint_that_was_trained_here(self, tmp_path, converted):
        """mmengine's runner keeps the config as text, which nobody may run: it is named."""
        content = read_checkpoint(converted)
        torch.save({'state_dict': content['state_dict'], 'meta': {'epoch': 1}}, tmp_path / 'epoch_1.pth')
        with pytest.raises(ConfigError, match='names no model with a backbone: name the config .*--config'):
            publish_model(tmp_path / 'epoch_1.pth', tmp_path / 'out', CARD_ENTRIES)
        (tmp_path / 'config.py').write_text(f'model = {content["meta"]["model"]!r}')
        folder = publish_model(tmp_path / 'epoch_1.pth', tmp_path / 'out', CARD_ENTRIES, tmp_path / 'config.py')
        assert isinstance(pelk_mm.from_pretrained(folder), SLaK)

    def test_a_folder_in_use(self, folder, converted):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(OutputError):
            publish_model(converted, folder, CARD_ENTRIES)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        publish_model(converted, folder, CARD_ENTRIES, overwrite=True)

    @pytest.mark.parametrize(
        ('card', 'message'),
        [
            (Card('', 'a', 'b'), '--licence must be one line of text'),
            (Card('mit', 'a\nb', 'b'), '--data must be one line'),
            (Card('mit', 'a', ' '), '--recipe must be one line'),
            (Card('mit', 'a', 'b', ('top-1',), 'c'), '--scores must be NAME=VALUE each'),
            (Card('mit', 'a', 'b', ('top-1=1',)), '--scores and --command go together'),
        ],
    )
    def test_a_card_that_lacks_something(self, tmp_path, converted, card, message):
        with pytest.raises(ConfigError, match=message):
            publish_model(converted, tmp_path / 'out', card)
        assert not (tmp_path / 'out').exists()

    def test_weights_of_another_model(self, tmp_path, converted):
        content = read_checkpoint(converted)
        content['state_dict']['decode_head.weight'] = torch.ones(1)
        torch.save(content, tmp_path / 'segmentor.pth')
        with pytest.raises(CheckpointError, match='decode_head.weight is not of a backbone, neck or head'):
            publish_model(tmp_path / 'segmentor.pth', tmp_path / 'out', CARD_ENTRIES)

    def test_the_tool(self, tmp_path, converted, monkeypatch, capsys):
        monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / 'tools'))
        from tool_runner import run

        arguments = (converted, tmp_path / 'out', '--licence', 'mit', '--data', 'd', '--recipe', 'r')
        assert run('model_converters/publish_model.py', *arguments) == 0
        assert 'written and read back' in capsys.readouterr().out
        assert run('model_converters/publish_model.py', *arguments) == 2
        assert capsys.readouterr().err.count('\n') == 1

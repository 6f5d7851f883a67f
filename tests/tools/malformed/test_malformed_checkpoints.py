"""Checkpoints that are damaged, changed, hostile or of something else, at every place that reads one."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from refusal import CANARY
from tool_runner import run
from toy_task import CONFIG


class RunsCode:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


HOSTILE = {
    'system': RunsCode(os.system, f'touch {CANARY}'),
    'makedirs': RunsCode(os.makedirs, CANARY),
    'eval': RunsCode(eval, f'open({CANARY!r}, "w")'),
    'ndarray beyond its buffer': RunsCode(np.ndarray, (4,), np.dtype('f8'), b'12345678', 1 << 20),
    'array of objects': np.array([b'1', None], object),
}
INIT = 'model.init_cfg'
# Each place that reads a checkpoint; FILE stands for its name.
READERS = {
    'test': ('test.py', 'toy.py', 'FILE'),
    'resume': ('train.py', 'toy.py', '--resume', 'FILE'),
    'load_from': ('train.py', 'toy.py', '--cfg-options', 'load_from=FILE'),
    'init_cfg': ('train.py', 'toy.py', '--cfg-options', f'{INIT}.type=Pretrained', f'{INIT}.checkpoint=FILE'),
    'merge': ('model_converters/reparameterize_model.py', 'toy.py', 'FILE', 'out.pth'),
    'remove_masks': ('model_converters/remove_masks.py', 'FILE', 'out.pth'),
    'convert': ('model_converters/convert_weights.py', 'slak', 'FILE', 'out.pth'),
}  # fmt: skip


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The bytes of the last checkpoint of a run."""
    before = Path.cwd()
    folder = tmp_path_factory.mktemp('trained')
    os.chdir(folder)
    try:
        Path('toy.py').write_text(CONFIG)
        assert run('train.py', 'toy.py', '--work-dir', 'run') == 0
    finally:
        os.chdir(before)
    return (folder / 'run/epoch_2.pth').read_bytes()


@pytest.fixture
def content(toy_config, trained):
    """What that checkpoint holds; a test changes it and saves it as ``bad.pth``."""
    Path('good.pth').write_bytes(trained)
    return torch.load('good.pth', weights_only=False)


def arguments(reader, name):
    tool, *args = READERS[reader]
    return tool, *(arg.replace('FILE', name) for arg in args)


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('kind', HOSTILE)
def test_nothing_in_a_file_runs(content, refuse, kind, reader):
    torch.save({**content, 'message': HOSTILE[kind]}, 'bad.pth')
    refuse('bad.pth (is refused|cannot be read.* not of numbers)', *arguments(reader, 'bad.pth'))
    assert not Path('out.pth').exists()


def flipped(data):
    at = data.index(b'state_dict') + 200
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


BROKEN = {
    'missing': (None, 'bad.pth does not exist'),
    'empty': (lambda data: b'', 'bad.pth cannot be read'),
    'half': (lambda data: data[: len(data) // 2], 'bad.pth cannot be read'),
    'without its end': (lambda data: data[:-30], 'bad.pth cannot be read'),
    'a flipped bit': (flipped, 'bad.pth cannot be read'),
    'text': (lambda data: b'version https://git-lfs.github.com/spec/v1\n', 'bad.pth is a pointer of Git LFS'),
    'zeros': (lambda data: bytes(1000), 'bad.pth cannot be read'),
}


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('kind', BROKEN)
def test_a_file_that_is_not_whole(content, trained, refuse, kind, reader):
    change, words = BROKEN[kind]
    if change is not None:
        Path('bad.pth').write_bytes(change(trained))
    refuse(words, *arguments(reader, 'bad.pth'))
    assert not Path('out.pth').exists()


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('value', [[1, 2], {}, {'model': 3}, torch.zeros(2), 'text'])
def test_a_file_of_something_else(content, refuse, value, reader):
    torch.save(value, 'bad.pth')
    refuse('bad.pth', *arguments(reader, 'bad.pth'))


def put(content, path, value):
    *parents, last = path
    for key in parents:
        content = content[key]
    if value is KeyError:
        del content[last]
    else:
        content[last] = value


STATE = ('meta', 'run_state')
RANDOM = (*STATE, 'processes', 0, 'random')
HUB = ('message_hub', 'runtime_info')


@pytest.mark.parametrize(
    ('path', 'value', 'words'),
    [
        (('state_dict',), KeyError, 'state_dict'),
        (('state_dict',), {}, 'does not fit|state_dict'),
        (('state_dict', 'head.weight'), KeyError, 'missing: head.weight'),
        (('state_dict', 'head.weight'), torch.zeros(3, 8), 'another shape: head.weight'),
        (('state_dict', 'head.weight'), 'text', 'head.weight must be a dense tensor'),
        (('state_dict', 'head.weight'), torch.zeros(2, 8).to_sparse(), 'bad.pth'),
        (('optimizer',), KeyError, 'optimizer'),
        (('optimizer',), 3, 'optimizer'),
        (('optimizer', 'param_groups'), [], 'bad.pth'),
        (('optimizer', 'param_groups', 0, 'lr'), math.nan, 'lr must be a finite number'),
        (('optimizer', 'param_groups', 0, 'lr'), -1.0, 'lr must be a finite number at least 0'),
        (('optimizer', 'param_groups', 0, 'params'), [0], 'bad.pth'),
        (('optimizer', 'state', 0, 'exp_avg'), torch.zeros(1, 4), 'exp_avg of the optimizer has shape'),
        (('optimizer', 'state', 0, 'exp_avg'), 0.5, 'exp_avg must be a dense tensor'),
        (('optimizer', 'state', 0, 'step'), torch.tensor(-3.0), 'step must be a finite number'),
        (('param_schedulers',), 3, 'param_schedulers must be a list'),
        (('param_schedulers', 0, 'last_step'), 'b', 'last_step must be an integer'),
        (('meta',), [], 'meta must be a dictionary'),
        (('meta', 'epoch'), -1, 'meta.epoch must be an integer'),
        (('meta', 'epoch'), KeyError, 'epoch'),
        (('meta', 'iter'), 1.5, 'meta.iter must be an integer'),
        (('message_hub',), KeyError, 'message_hub'),
        (('message_hub',), {}, 'message_hub must be a dictionary'),
        (('message_hub', 'log_scalars', 'train/loss'), [1.0], 'must be a HistoryBuffer'),
        ((*HUB, 'best_ckpt'), 3, 'best_ckpt must be a string'),
        ((*HUB, 'keep_ckpt_ids'), ['../../x'], 'keep_ckpt_ids'),
        ((*HUB, 'keep_ckpt_ids'), 7, 'keep_ckpt_ids'),
        ((*STATE,), [], 'run_state must be a dictionary'),
        ((*STATE, 'position'), (1, -2), 'position'),
        ((*STATE, 'data_seed'), 'a', 'data_seed must be an integer'),
        ((*STATE, 'validated'), 1, 'validated must be True or False'),
        ((*STATE, 'processes'), 3, 'processes must be a list'),
        ((*RANDOM, 'python'), torch.zeros(3, dtype=torch.int64), 'random.python must be a dense tensor'),
        ((*RANDOM, 'numpy'), torch.full((625,), 1 << 40), 'random.numpy must be words'),
        ((*RANDOM, 'torch'), torch.zeros(8, dtype=torch.uint8), 'random.torch must be a dense tensor'),
        ((*RANDOM, 'torch'), KeyError, 'random'),
        ((*STATE, 'processes', 0, 'buffers'), {'no.such': torch.zeros(1)}, 'no.such'),
        ((*STATE, 'processes', 0, 'buffers'), {'backbone.1.running_mean': torch.zeros(3)}, 'running_mean'),
        ((*STATE, 'gradients'), {'head.bias': torch.zeros(5)}, 'head.bias'),
        ((*STATE, 'files'), {'a.pth': 'big'}, 'files'),
        ((*STATE, 'files'), ['a.pth'], 'files must be a dictionary'),
        ((*STATE, 'settings'), 4, 'settings must be a dictionary'),
    ],
)  # fmt: skip
def test_a_state_that_was_changed_is_not_resumed(content, refuse, path, value, words):
    put(content, path, value)
    torch.save(content, 'bad.pth')
    refuse(words, 'train.py', 'toy.py', '--resume', 'bad.pth', '--cfg-options', 'train_cfg.max_epochs=3')
    assert not list(Path('work_dirs').rglob('*.pth'))


@pytest.mark.parametrize('reader', ['test', 'resume'])
def test_weights_of_a_run_that_diverged(content, reader, refuse):
    for value in content['state_dict'].values():
        if value.is_floating_point():
            value.fill_(math.nan)
    torch.save(content, 'bad.pth')
    refuse('hold NaN.*diverged', *arguments(reader, 'bad.pth'))


@pytest.mark.parametrize('name', ['../bad.pth', '/etc/passwd', '', 'no\x00name'])
def test_a_record_of_the_last_checkpoint_leads_nowhere_else(content, refuse, name, trained):
    """What ``last_checkpoint`` names counts as a name in the folder only; nothing is there, and the run starts anew."""
    Path('run').mkdir()
    Path('bad.pth').write_bytes(trained)
    Path('run/last_checkpoint').write_text(name)
    assert run('train.py', 'toy.py', '--work-dir', 'run', '--resume') == 0
    assert Path('bad.pth').read_bytes() == trained
    assert Path('run/epoch_2.pth').exists()

"""The code that the README and the first pages show, run as it stands there."""

import os
import re
import shlex
import sys
from functools import cache
from pathlib import Path
from typing import Any

import children
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from page_reader import read_page

ROOT = Path(__file__).parents[2]
PAGES = [
    'README.md',
    'docs/start/first_net.md',
    'docs/start/in_your_config.md',
    'docs/guide/weights.md',
    'docs/nets/index.md',
    'docs/ops/index.md',
]
SHAPE = re.compile(r'\((\d+(?:, \d+)+)\)')


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return [block.text for block in read_page(ROOT / page).blocks if block.language == language]


def is_config(block: str) -> bool:
    return 'import torch' not in block and 'net = ' not in block and 'import mmpretrain' not in block


def programs(page: str) -> list[str]:
    return [block for block in blocks(page, 'python') if not is_config(block)]


def configs(page: str) -> list[str]:
    return [block for block in blocks(page, 'python') if is_config(block)]


def test_every_python_block_is_taken_by_a_test_below():
    assert [len(programs(page)) for page in PAGES] == [1, 6, 0, 0, 0, 1]
    assert [len(configs(page)) for page in PAGES] == [1, 0, 5, 3, 1, 0]


@cache
def session(page: str) -> dict[str, Any]:
    """What the Python blocks of a page leave behind, run one after another."""
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    for block in programs(page):
        if 'mmpretrain' in block:
            pytest.importorskip('mmpretrain', reason='the block after the others takes a net by its name there')
        exec(compile(block, page, 'exec'), names)
    return names


@pytest.mark.slow
@pytest.mark.parametrize('page', [page for page in PAGES if programs(page)])
def test_python_runs_as_one_session(page):
    assert 'torch' in session(page)


@pytest.mark.slow
def test_shapes_of_the_readme_are_those_that_come_out():
    comment = programs('README.md')[0].splitlines()[-1].partition('#')[2]
    assert [tuple(map(int, shape.split(', '))) for shape in SHAPE.findall(comment)] == [
        tuple(feature_map.shape) for feature_map in session('README.md')['maps']
    ]


def test_numbers_of_the_ops_page_are_those_that_come_out():
    (block,) = programs('docs/ops/index.md')
    names = session('docs/ops/index.md')
    assert f'# {names["grid"].sizes}' in block
    assert f'{names["weight"][0].numel()} parameters a channel' in block
    assert names['out'].shape == names['x'].shape


@pytest.mark.slow
@pytest.mark.parametrize('page', [page for page in PAGES if configs(page)])
def test_configs_build_what_they_name(page, tmp_path):
    pytest.importorskip('mmdet', reason='the pages inherit a Mask R-CNN of mmdet')
    mmseg = pytest.importorskip('mmseg', reason='the pages inherit a UperNet of mmseg')
    for number, block in enumerate(configs(page)):
        path = tmp_path / f'config_{number}.py'
        path.write_text(block.replace('PATH_OF_MMSEGMENTATION', str(Path(mmseg.__file__).parent / '.mim')))
        cfg = Config.fromfile(path)
        backbone = cfg.get('backbone') or cfg.get('model', {}).get('backbone')
        if backbone is None:
            continue
        backbone.pop('_delete_', None)
        channels = list(MODELS.build(backbone).channels)
        head = cfg.get('model', {}).get('decode_head')
        if head:
            assert head.in_channels == channels
            assert cfg.model.auxiliary_head.in_channels == channels[2]
        if cfg.get('default_scope') == 'mmseg':
            with DefaultScope.overwrite_default_scope('mmseg'):
                assert type(MODELS.build(cfg.model).decode_head).__name__ == 'UPerHead'
        if 'neck' not in cfg.get('model', {}):
            continue
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = MODELS.build(cfg.model)
        assert [tuple(p.shape) for p in model.extract_feat(torch.rand(1, 3, 64, 64))] == [
            (1, 256, 16, 16),
            (1, 256, 8, 8),
            (1, 256, 4, 4),
            (1, 256, 2, 2),
            (1, 256, 1, 1),
        ]
        if 'constructor' in cfg.optim_wrapper:
            groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
            assert len({group['lr'] for group in groups}) == 6  # the stem, four stages, the rest


@pytest.mark.processes
def test_the_two_commands_start_what_a_clone_holds(tmp_path):
    if not (ROOT / '.git').exists():
        pytest.skip('only a git checkout can be cloned')
    block = blocks('README.md', 'bash')[0].replace('URL_OF_THIS_REPOSITORY', shlex.quote(str(ROOT)))
    # The scripts themselves have their own tests: here `bash` only says what it would run.
    stand_in = 'set -e\nbash() { command bash -n "$1"; echo "$PWD runs $*"; }\n'
    done = children.run(['bash', '-c', stand_in + block], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    clone = tmp_path / 'pelk_mm'
    assert done.stdout.splitlines() == [f'{clone} runs tools/demo.sh', f'{clone} runs tools/run_tests.sh']


@pytest.mark.processes
def test_the_figure_is_drawn_by_the_command_beside_it(tmp_path):
    (command,) = re.findall(r'`python (tools/analysis_tools/\S+ .*?)`', (ROOT / 'README.md').read_text())
    script, *arguments = command.split()
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = children.run([sys.executable, str(ROOT / script), *arguments], cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / arguments[-1]).exists()

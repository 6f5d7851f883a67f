from pathlib import Path

import pytest
import torch
from tool_runner import run

from pelk_mm.apis.load_model import load_model
from pelk_mm.checkpoints.reading import read_checkpoint
from pelk_mm.engine.config import load_config

TOOL = 'model_converters/remove_masks.py'
HOOKS = """
custom_hooks = [
    dict(type='pelk_mm.DynamicSparsityHook', update_interval=1, prune_rate=0.9, sparsity=0.6),
    dict(type='EMAHook', momentum=0.5),
]
"""


@pytest.fixture
def sparse(project):
    """A segmentor with a PeLK backbone, trained for two iterations under masks; the checkpoint's path."""
    (project / 'sparse.py').write_text((project / 'seg.py').read_text() + HOOKS)
    assert run('train.py', 'sparse.py') == 0
    return Path('work_dirs/sparse/iter_2.pth')


def test_masks_go_zeros_stay(sparse, capsys):
    before = read_checkpoint(sparse)
    masks = before['sparsity']['masks']
    assert {name.rpartition('.')[2] for name in masks} >= {'weight', 'w_theta', 'small_weight'}
    assert not any('pos_embeds' in name or 'norm' in name or 'bias' in name for name in masks)
    for key, prefix in (('state_dict', ''), ('ema_state_dict', 'module.')):
        for name, mask in masks.items():  # as if something had written to them
            assert not before[key][prefix + name][~mask].any()
            before[key][prefix + name] = before[key][prefix + name] + 1
    torch.save(before, 'touched.pth')
    zeros = sum(int((~mask).sum()) for mask in masks.values())

    assert run(TOOL, 'touched.pth', 'plain.pth') == 0
    out = capsys.readouterr().out
    assert f'masks of {len(masks)} layers removed: {zeros:,} of ' in out
    assert out.endswith('left out: sparsity\nwritten: plain.pth\n')
    plain = read_checkpoint('plain.pth')
    assert set(plain) == set(before) - {'sparsity'}
    for key, prefix in (('state_dict', ''), ('ema_state_dict', 'module.')):
        for name, value in before[key].items():
            mask = masks.get(name.removeprefix(prefix))
            assert torch.equal(plain[key][name], value if mask is None else torch.where(mask, value, 0.0))

    assert run(TOOL, sparse, 'weights.pth', '--weights-only') == 0
    assert 'left out: ' in capsys.readouterr().out
    assert set(read_checkpoint('weights.pth')) == {'meta', 'state_dict'}
    assert run('test.py', 'sparse.py', 'weights.pth') == 0

    # Fine-tuning finds the zeros of the file without masks.
    fixed = "\ncustom_hooks = [dict(type='pelk_mm.DynamicSparsityHook', mode='fixed')]\n"
    Path('tuned.py').write_text(Path('seg.py').read_text() + fixed)
    assert run('train.py', 'tuned.py', '--cfg-options', 'load_from=weights.pth') == 0
    found = read_checkpoint('work_dirs/tuned/iter_2.pth')['sparsity']['masks']
    weights = read_checkpoint('weights.pth')['state_dict']
    assert len(found) > len(masks) / 2
    assert all(torch.equal(mask, weights[name] != 0) for name, mask in found.items())


def test_a_checkpoint_with_masks_deploys(sparse, capsys):
    assert run('model_converters/reparameterize_model.py', 'seg.py', sparse, 'deployed.pth') == 0
    assert 'backbone outputs agree' in capsys.readouterr().out
    assert set(read_checkpoint('deployed.pth')) == {'meta', 'state_dict'}
    outputs = []
    for checkpoint in (sparse, 'deployed.pth'):
        model = load_model(load_config('seg.py'), checkpoint, 'cpu', deploy=False)
        with torch.no_grad():
            outputs.append(model.backbone(torch.ones(1, 3, 64, 64)))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)


def test_bad_input(project, checkpoints, capsys):
    def error(*args):
        assert run(TOOL, *args) == 2
        return capsys.readouterr().err

    assert 'holds no sparsity masks: there is nothing to remove' in error(checkpoints['seg'], 'out.pth')
    assert 'is an input of this command' in error(checkpoints['seg'], checkpoints['seg'], '--overwrite')
    assert 'seg.py exists: pass --overwrite' in error(checkpoints['seg'], 'seg.py')
    assert 'none.pth does not exist' in error('none.pth', 'out.pth')
    state = {'w': torch.ones(2, 2)}
    masks = {'w': torch.ones(2, 3, dtype=torch.bool), 'v': torch.ones(1, dtype=torch.bool)}
    torch.save({'state_dict': state, 'sparsity': {'masks': masks}}, 'misfit.pth')
    assert 'state_dict of checkpoint misfit.pth has no weight that fits the masks of w, v' in error(
        'misfit.pth', 'out.pth'
    )
    assert not Path('out.pth').exists()

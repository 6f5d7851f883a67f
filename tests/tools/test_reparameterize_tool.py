import pytest
import torch
from tool_runner import run

from pelk_mm.apis.load_model import load_model
from pelk_mm.engine.config import load_config

TOOL = 'model_converters/reparameterize_model.py'


@pytest.mark.parametrize('task', ['seg', 'cls', 'det'])
def test_a_converted_checkpoint_gives_the_same_outputs(project, checkpoints, capsys, task):
    assert run(TOOL, f'{task}.py', checkpoints[task], 'deployed.pth') == 0
    out = capsys.readouterr().out
    assert 'switched: backbone\nbackbone outputs agree: largest difference ' in out
    deployed = torch.load('deployed.pth')
    assert set(deployed) == {'meta', 'state_dict'}
    assert deployed['meta'] == {'deploy': True}
    assert not any('small_' in key for key in deployed['state_dict'])

    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    outputs = []
    for checkpoint in (checkpoints[task], 'deployed.pth'):
        model = load_model(load_config(f'{task}.py'), checkpoint, 'cpu', deploy=False)
        with torch.no_grad():
            outputs.append(model.backbone(image))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)
    assert run('test.py', f'{task}.py', 'deployed.pth') == 0
    capsys.readouterr()

    assert run(TOOL, f'{task}.py', checkpoints[task], 'deployed.pth') == 2
    assert 'error: deployed.pth exists: pass --overwrite to replace it' in capsys.readouterr().err
    assert run(TOOL, f'{task}.py', checkpoints[task], 'deployed.pth', '--overwrite') == 0
    assert run(TOOL, f'{task}.py', 'deployed.pth', 'twice.pth') == 2
    assert 'deployed.pth is in its deployed form already' in capsys.readouterr().err


def test_bad_input(project, checkpoints, capsys):
    assert run(TOOL, 'seg.py', checkpoints['seg'], checkpoints['seg'], '--overwrite') == 2
    assert 'is an input of this command: choose another name' in capsys.readouterr().err
    assert run(TOOL, 'seg.py', checkpoints['cls'], 'out.pth') == 2
    assert 'does not fit the model of the config' in capsys.readouterr().err
    plain = ['--cfg-options', 'model.backbone.type=mmpretrain.TIMMBackbone', 'model.backbone._delete_=True']
    assert run(TOOL, 'cls.py', checkpoints['cls'], 'out.pth', *plain) == 2
    assert 'error: cannot build the model of cls.py' in capsys.readouterr().err
    assert not (project / 'out.pth').exists()


def test_a_wrong_merge_is_not_written(project, checkpoints, capsys, monkeypatch):
    from pelk_mm.models import PeLK

    switch = PeLK.switch_to_deploy

    def spoil(self):
        switch(self)
        self.stages[0][0].gamma.data += 1

    monkeypatch.setattr(PeLK, 'switch_to_deploy', spoil)
    assert run(TOOL, 'seg.py', checkpoints['seg'], 'out.pth') == 2
    assert 'differs from the original by' in capsys.readouterr().err
    assert not (project / 'out.pth').exists()

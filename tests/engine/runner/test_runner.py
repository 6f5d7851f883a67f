from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import CheckpointLoader

from pelk_mm.apis.test import evaluate
from pelk_mm.apis.train import train
from pelk_mm.checkpoints.reading import read_checkpoint
from pelk_mm.utils.errors import CheckpointError, SaveError

ONE = {'train_cfg.max_epochs': 1}
LAST = 'work_dirs/toy/epoch_1.pth'


def test_resuming_executes_no_config_from_the_checkpoint(toy_config):
    train(toy_config, cfg_options=ONE)
    checkpoint = read_checkpoint(LAST)
    checkpoint['meta']['config'] = "import os\nos.makedirs('payload_ran', exist_ok=True)\n"
    torch.save(checkpoint, 'evil.pth')
    train(toy_config, resume='evil.pth')
    assert not Path('payload_ran').exists()
    train(toy_config, resume='evil.pth', trust_checkpoint=True)
    assert Path('payload_ran').exists()  # mmengine does execute it


def test_what_mmengine_fetches_by_itself_is_weights_only(toy_config, tmp_path):
    class Payload:
        def __reduce__(self):
            return eval, ("__import__('pathlib').Path('payload_ran').touch()",)

    torch.save({'state_dict': {'x': torch.ones(1)}, 'meta': Payload()}, 'evil.pth')

    def fetch(filename, map_location):
        return torch.load(tmp_path / filename.removeprefix('toy://'), map_location, weights_only=False)

    fetch.__name__ = 'load_from_toy'
    CheckpointLoader.register_scheme('toy://', fetch, force=True)
    with pytest.raises(CheckpointError, match=r'evil.pth is refused: .*builtins.eval'):
        evaluate(toy_config, 'toy://evil.pth')
    assert not Path('payload_ran').exists()


def test_resume_with_another_optimizer(toy_config):
    train(toy_config, cfg_options=ONE)
    options = {'optim_wrapper.paramwise_cfg': {'bypass_duplicate': True, 'custom_keys': {'head': {'lr_mult': 2.0}}}}
    options['optim_wrapper.optimizer'] = {'type': 'SGD', 'lr': 0.1, '_delete_': True}
    with pytest.raises(
        CheckpointError, match='epoch_1.pth cannot be resumed with this config: optimizer AdamW then, SGD now'
    ):
        train(toy_config, resume='auto', cfg_options=options)


def test_resume_in_an_empty_folder_starts_from_the_beginning(toy_config):
    runner = train(toy_config, resume='auto', cfg_options=ONE)
    assert runner.iter == 2
    assert '--resume: no checkpoint in work_dirs/toy yet' in next(Path('work_dirs/toy').glob('*/*.log')).read_text()


def test_the_config_of_an_earlier_run_survives_a_refused_one(toy_config):
    train(toy_config, cfg_options=ONE)
    dumped = Path('work_dirs/toy/toy.py').read_text()
    with pytest.raises(CheckpointError):
        train(toy_config, overwrite=True, cfg_options={'load_from': 'none.pth'})
    evaluate(toy_config, LAST, cfg_options={'test_dataloader.batch_size': 2})
    assert Path('work_dirs/toy/toy.py').read_text() == dumped


def test_disk_full_while_logging(toy_config):
    class FullHook(Hook):
        def before_train_epoch(self, runner):
            if runner.epoch == 1:
                raise OSError(28, 'No space left on device', str(Path(runner.log_dir, 'scalars.json')))

    HOOKS.register_module(name='FullHook', module=FullHook, force=True)
    with pytest.raises(SaveError, match=r'cannot write file .*scalars.json: No space left .* is .*epoch_1.pth'):
        train(toy_config, cfg_options={'custom_hooks': [{'type': 'FullHook'}]})

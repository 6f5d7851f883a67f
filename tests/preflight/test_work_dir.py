"""What an earlier run left is refused, resumed from or replaced; what is not its own is left alone."""

import os
from unittest.mock import ANY

import pytest
from mmengine.config import Config

from pelk_mm.preflight.work_dir import check_work_dir
from pelk_mm.utils.errors import OutputError


def test_work_dir_with_checkpoints(tmp_path):
    cfg = Config({'work_dir': str(tmp_path / 'run'), 'model': {}})
    assert check_work_dir(cfg, resume=False, overwrite=False) == {}
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / '20260101.log').touch()
    assert check_work_dir(cfg, resume=False, overwrite=False) == {}
    (tmp_path / 'run' / 'iter_5.pth').touch()
    with pytest.raises(OutputError, match=r'already holds 1 checkpoint\(s\) \(iter_5.pth\): .*--resume.*--overwrite'):
        check_work_dir(cfg, resume=False, overwrite=False)
    assert check_work_dir(cfg, resume=True, overwrite=False) == {}
    assert check_work_dir(cfg, resume=False, overwrite=True) == {tmp_path / 'run' / 'iter_5.pth': ANY}
    assert (tmp_path / 'run' / 'iter_5.pth').exists()
    with pytest.raises(OutputError, match='--resume goes on with the checkpoints that --overwrite replaces'):
        check_work_dir(cfg, resume=True, overwrite=True)
    # The checkpoint hook may write elsewhere.
    (tmp_path / 'big' / 'run').mkdir(parents=True)
    (tmp_path / 'run' / 'iter_5.pth').rename(tmp_path / 'big' / 'run' / 'iter_5.pth')
    cfg.default_hooks = {'checkpoint': {'type': 'CheckpointHook', 'out_dir': str(tmp_path / 'big')}}
    with pytest.raises(OutputError, match='already holds 1'):
        check_work_dir(cfg, resume=False, overwrite=False)


@pytest.fixture
def run(tmp_path):
    """A folder with two checkpoints of a run, and much that is not one."""
    folder = tmp_path / 'run'
    folder.mkdir()
    for name in ('epoch_1.pth', 'best_coco_bbox_mAP_epoch_1.pth', 'weights.pth', 'epoch_x.pth', 'notes.txt'):
        (folder / name).write_text(name)
    (tmp_path / 'elsewhere.pth').write_text('of another run')
    (folder / 'epoch_2.pth').symlink_to(tmp_path / 'elsewhere.pth')
    (folder / 'epoch_3.pth').mkdir()
    return folder


def test_only_checkpoints_of_a_run_are_replaced(run):
    cfg = Config({'work_dir': str(run), 'model': {}})
    found = check_work_dir(cfg, resume=False, overwrite=True)
    assert [file.name for file in found] == ['best_coco_bbox_mAP_epoch_1.pth', 'epoch_1.pth']
    cfg.default_hooks = {'checkpoint': {'filename_tmpl': 'epoch_{}x.pth'}}
    (run / 'epoch_7x.pth').touch()
    assert run / 'epoch_7x.pth' in check_work_dir(cfg, resume=False, overwrite=True)


@pytest.mark.parametrize('link', [None, os.link, os.symlink])
def test_what_the_run_starts_from_is_not_replaced(run, tmp_path, link):
    source = str(run / 'epoch_1.pth')
    if link is not None:
        link(source, tmp_path / 'other_name.pth')
        source = str(tmp_path / 'other_name.pth')
    init = {'backbone': {'init_cfg': {'type': 'Pretrained', 'checkpoint': source}}}
    for settings in ({'load_from': source, 'model': {}}, {'model': init}):
        with pytest.raises(OutputError, match='--overwrite would replace: move it out of'):
            check_work_dir(Config({'work_dir': str(run), **settings}), resume=False, overwrite=True)
    other = {'load_from': str(run / 'weights.pth'), 'model': {}}
    assert check_work_dir(Config({'work_dir': str(run), **other}), resume=False, overwrite=True)

"""What tools/demo.sh does with the tools it calls; these have their own tests and are stand-ins here."""

import os
import shutil
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from children import LIMIT, started

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
# Stands in for the interpreter: notes its arguments and leaves behind what the tool would.
PYTHON = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$1" in
  tools/train.py)
    work="$4"
    mkdir -p "$work"
    if [[ "${TRAINING:-}" == hangs ]]; then
      trap 'echo "interrupted: the last whole checkpoint is iter_20.pth" >&2; exit 130' INT
      touch "$work/iter_20.pth"
    fi
    echo '01/01 00:00:00 - mmengine - INFO - Iter(train) [ 20/600]  lr: 1e-3  eta: 0:01:15  time: 0.2  loss: 1.50  a: 1'
    while [[ "${TRAINING:-}" == hangs ]]; do sleep 0.05; done
    [[ "${TRAINING:-}" != fails ]] || { echo 'error: no such config' >&2; exit 2; }
    echo '01/01 00:00:01 - mmengine - INFO - Iter(val) [5/5]    aAcc: 90.0  mIoU: 81.50  mAcc: 1  time: 1'
    touch "$work/iter_600.pth"
    echo "$work/iter_600.pth" >"$work/last_checkpoint" ;;
  *save_untrained.py) [[ "${SCORING:-}" != fails ]] || { echo 'error: no such model' >&2; exit 2; } ;;
  tools/test.py)
    [[ "${SCORING:-}" != hangs || "$*" != *untrained* ]] || { touch "$CALLS.scoring"; sleep 600; }
    [[ "${SCORING:-}" != hangs ]] || { while [[ ! -e "$CALLS.scoring" ]]; do sleep 0.05; done; exit 3; } ;;
  *segmentation_report.py)
    echo 'INFO - a line of a logger'
    echo '40 images, 9 classes present   this net'
    echo 'pixel accuracy   95.5 %'
    touch "${@: -1}"
    echo "pictures: ${@: -1}" ;;
esac
"""


@pytest.fixture
def demo(tmp_path):
    """Runs the demo in a checkout of stand-ins; returns the process and the tools it called."""
    (tmp_path / 'tools').mkdir()
    shutil.copy(ROOT / 'tools/demo.sh', tmp_path / 'tools')
    python = tmp_path / 'python'
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / 'tools/setup.sh').write_text(f'[[ "$*" == *--without-operators* ]] && echo {python}')

    def start(*args, **env):
        (tmp_path / 'calls').write_text('')
        inherited = {key: value for key, value in os.environ.items() if key != 'PELK_MM_DEMO_DIR'}
        env = {**inherited, 'CALLS': str(tmp_path / 'calls'), **env}
        command = ['bash', str(tmp_path / 'tools/demo.sh'), *args]
        # elsewhere: where it is called from must not matter
        process = started(command, cwd='/', env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return processes.enter_context(process)

    def run(*args, **env):
        process = start(*args, **env)
        process.out, process.err = process.communicate(timeout=LIMIT)
        process.calls = (tmp_path / 'calls').read_text().splitlines()
        return process

    run.start, run.root = start, tmp_path
    with ExitStack() as processes:
        yield run


def training_of(process):
    return [call for call in process.calls if call.startswith('tools/train.py')]


def test_first_call_does_everything(demo):
    process = demo()
    assert process.returncode == 0, process.err
    tools = [Path(call.split()[0]).name for call in process.calls]
    assert tools[:2] == ['make_toy_data.py', 'train.py']
    assert sorted(tools[2:5]) == ['save_untrained.py', 'test.py', 'test.py']  # both nets are scored at once
    assert tools[5:] == ['segmentation_report.py']
    assert '--resume' not in process.calls[1]
    scored = {call.split()[2] for call in process.calls if call.startswith('tools/test.py')}
    assert scored == {'work_dirs/demo/train/iter_600.pth', 'work_dirs/demo/untrained/start.pth'}
    assert 'iteration 20 of 600, loss 1.50, time left 0:01:15' in process.out
    assert 'held-out mIoU so far: 81.50' in process.out
    assert '40 images, 9 classes present' in process.out
    assert 'pixel accuracy   95.5 %' in process.out
    assert ' to set up, ' in process.out
    assert process.out.splitlines()[-1] == f'[demo] picture: {demo.root}/work_dirs/demo/predictions.png'
    assert 'a line of a logger' not in process.out


def test_second_call_scores_the_trained_net_again(demo):
    demo()
    process = demo()
    assert process.returncode == 0, process.err
    assert not training_of(process)
    assert 'trained already' in process.out
    assert 'picture: ' in process.out


def test_overwrite_trains_again_and_arguments_reach_the_training(demo):
    demo()
    process = demo('--overwrite', '--cfg-options', 'train_cfg.max_iters=3')
    assert process.returncode == 0, process.err
    (call,) = training_of(process)
    assert call.endswith('--overwrite --cfg-options train_cfg.max_iters=3')
    assert '--resume' not in call


def test_failure_shows_the_tools_own_words_and_its_status(demo):
    process = demo(TRAINING='fails')
    assert process.returncode == 2
    assert 'error: no such config' in process.err
    assert 'work_dirs/demo/logs/train.log' in process.err
    assert len(process.calls) == 2
    assert not (demo.root / 'work_dirs/demo/train/finished').exists()


def test_failure_of_the_baseline_is_one_too(demo):
    process = demo(SCORING='fails')
    assert process.returncode == 2
    assert 'error: no such model' in process.err
    assert 'work_dirs/demo/logs/untrained.log' in process.err
    assert 'picture' not in process.out


def test_a_failed_score_ends_the_other_one_too(demo):
    process = demo(SCORING='hangs')  # that nothing is left behind is checked where the process ends
    assert process.returncode == 3


def test_resumes_after_ctrl_c(demo):
    process = demo.start(TRAINING='hangs')
    # this line has come through everything that Ctrl-C must find at work
    assert any('iteration 20 of 600' in line for line in iter(process.stdout.readline, ''))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert 'interrupted: the last whole checkpoint is iter_20.pth' in err
    process = demo()
    assert process.returncode == 0, process.err
    assert training_of(process)[0].endswith('--resume')


def test_folder_can_be_chosen(demo, tmp_path):
    process = demo(PELK_MM_DEMO_DIR=str(tmp_path / 'elsewhere'))
    assert process.returncode == 0, process.err
    assert (tmp_path / 'elsewhere/train/finished').exists()
    assert not (tmp_path / 'work_dirs').exists()

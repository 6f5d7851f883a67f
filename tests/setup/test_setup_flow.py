"""The whole set-up over stand-ins for the index, the compiler and the stack."""

import os
import signal
import subprocess

import pytest
from children import LIMIT, started, wait_for

from pelk_mm.analysis.resume.kill_and_compare import is_alive

pytestmark = pytest.mark.processes

BROKEN = 'raise ImportError("undefined symbol: _ZN2at")'


def wheels(checkout):
    return sorted(path.parent.name for path in checkout.cache.glob('wheels/*/*.whl'))


def test_builds_once_and_prints_versions(checkout, fake_stack):
    done = checkout.setup()
    assert done.returncode == 0, done.stderr
    assert 'mmpretrain  mmpretrain-version' in done.stdout
    assert 'mmcv.ops    built for the CPU only' in done.stdout
    assert 'pelk_mm     0.1.0' in done.stdout
    assert checkout.builds == 1
    (name,) = wheels(checkout)
    assert name.startswith(f'mmcv2.3.6-{checkout.tag}-torch2.11.0+cu130-cpu-')
    assert '--no-build-isolation --no-deps --no-cache-dir' in checkout.calls
    assert not list(checkout.temporary.iterdir())


def test_second_run_asks_neither_index_nor_compiler(checkout, fake_stack):
    assert checkout.setup().returncode == 0
    calls = checkout.calls
    (checkout.bin / 'c++').unlink()
    done = checkout.setup('--print-python')
    assert done.returncode == 0, done.stderr
    assert done.stdout == f'{checkout.venv}/bin/python\n'
    assert 'pelk_mm     0.1.0' in done.stderr
    assert checkout.calls == calls


def test_packages_are_compiled_where_python_keeps_no_bytecode(checkout, fake_stack):
    assert checkout.setup(PYTHONDONTWRITEBYTECODE='1').returncode == 0
    assert list((fake_stack / 'mmseg').rglob('*.pyc'))


def test_kept_wheel_serves_a_new_environment(checkout, fake_stack):
    assert checkout.setup().returncode == 0
    second = checkout.folder / 'second'
    checkout.make_environment(second)
    done = checkout.setup(PELK_MM_VENV=str(second))
    assert done.returncode == 0, done.stderr
    assert checkout.builds == 1
    assert str(second) in done.stdout


def test_changed_pins_are_installed(checkout, fake_stack):
    assert checkout.setup().returncode == 0
    with open(checkout.root / 'requirements' / 'lock.txt', 'a') as lock:
        lock.write('# changed\n')
    assert checkout.setup().returncode == 0
    assert checkout.calls.count('lock.txt') == 2
    assert checkout.builds == 1


def test_another_torch_gets_another_wheel(checkout, fake_stack):
    assert checkout.setup().returncode == 0
    torch = fake_stack / 'torch' / '__init__.py'
    torch.write_text(torch.read_text().replace('2.11.0', '2.12.0'))
    (checkout.venv / '.pelk_mm_stack').unlink()
    assert checkout.setup().returncode == 0
    assert checkout.builds == 2
    assert len(wheels(checkout)) == 2


def test_failed_build_shows_the_end_of_the_log(checkout, fake_stack):
    done = checkout.setup(FAKE_BUILD='nms.cpp:12: error: no such thing')
    assert done.returncode == 1
    assert 'nms.cpp:12: error: no such thing' in done.stderr
    assert "error: failed while building mmcv's operators" in done.stderr
    assert not wheels(checkout)
    assert not list(checkout.temporary.iterdir())


def test_disk_that_runs_full_while_building(checkout, fake_stack):
    line = checkout.error(FAKE_BUILD='fatal error: No space left on device')
    assert "the disk ran full while building mmcv's operators: free some space" in line


def test_interrupted_build_leaves_nothing(checkout, fake_stack):
    command = ['bash', str(checkout.root / 'tools/setup.sh')]
    note = checkout.folder / 'building'
    with started(command, env={**checkout.env, 'FAKE_BUILD': 'hang'}, stdout=subprocess.PIPE) as process:
        wait_for(lambda: note.exists() and note.read_text() != '', process=process)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=LIMIT)
        assert process.returncode == 130
        wait_for(lambda: not is_alive(int(note.read_text())))
    assert not list(checkout.temporary.iterdir())
    assert not list(checkout.cache.glob('wheels/*'))
    assert checkout.setup().returncode == 0  # and the next run starts anew


def test_kept_wheel_that_does_not_import_is_removed(checkout, fake_stack):
    line = checkout.error(FAKE_WHEEL=BROKEN)
    assert 'does not import (ImportError: undefined symbol: _ZN2at) and was removed' in line
    assert 'run tools/setup.sh again' in line
    assert not wheels(checkout)
    assert checkout.setup().returncode == 0


def test_broken_package_is_named(checkout, fake_stack):
    assert checkout.setup().returncode == 0
    (fake_stack / 'mmdet' / '__init__.py').write_text('assert False, "MMCV==9 is used but incompatible"')
    done = checkout.setup()
    assert done.returncode == 1
    assert 'error: mmdet does not import' in done.stderr
    assert 'MMCV==9 is used but incompatible' in done.stderr
    assert f'remove {checkout.venv} and run tools/setup.sh again' in done.stderr


def test_active_environment_is_used(checkout):
    theirs = checkout.folder / 'theirs'
    site = checkout.make_environment(theirs)
    (site / 'mmcv' / '_ext.py').touch()
    done = checkout.setup('--print-python', PATH=f'{theirs}/bin:{checkout.env["PATH"]}', VIRTUAL_ENV=str(theirs))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f'{theirs}/bin/python\n'
    assert not checkout.venv.exists()
    assert 'uv' not in checkout.calls
    assert '--no-deps --no-build-isolation -e' in checkout.calls


def test_active_environment_without_test_tools_is_left_alone(checkout, fake_stack):
    theirs = checkout.folder / 'theirs'
    site = checkout.make_environment(theirs)
    (site / 'mmcv' / '_ext.py').touch()
    (site / 'ruff' / '__init__.py').unlink()
    (site / 'ruff').rmdir()
    done = checkout.setup(PATH=f'{theirs}/bin:{checkout.env["PATH"]}', VIRTUAL_ENV=str(theirs))
    assert done.returncode == 0, done.stderr
    assert f'not using {theirs}/bin/python as it is: it lacks ruff' in done.stderr
    assert f'interpreter: {checkout.venv}/bin/python' in done.stdout
    assert not (site / 'checkout.pth').exists()


def test_active_environment_whose_operators_do_not_import_is_left_alone(checkout, fake_stack):
    theirs = checkout.folder / 'theirs'
    site = checkout.make_environment(theirs)
    (site / 'mmcv' / '_ext.py').write_text(BROKEN)
    done = checkout.setup(PYTHON=f'{theirs}/bin/python')
    assert done.returncode == 0, done.stderr
    assert 'mmcv.ops does not import' in done.stderr
    assert 'undefined symbol: _ZN2at' in done.stderr
    assert not (site / 'checkout.pth').exists()


def test_run_tests_passes_its_arguments_on(checkout, fake_stack):
    done = checkout.setup('tests/ops', '-k', 'a b', script='tools/run_tests.sh')
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"pytest {checkout.root} ['-n', 'auto', '--dist', 'worksteal', 'tests/ops', '-k', 'a b']\n"


def test_run_tests_stops_where_the_set_up_fails(checkout, fake_stack):
    done = checkout.setup(script='tools/run_tests.sh', FAKE_UV_ERROR='error: Failed to fetch')
    assert done.returncode == 1
    assert 'error: no network' in done.stderr
    assert 'pytest' not in done.stdout

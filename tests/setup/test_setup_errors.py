"""What a machine may lack: each gives one line that says what to do, before anything is downloaded."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]
VERSION = f'{sys.version_info[0]}.{sys.version_info[1]}'
SMALL_DISK = 'printf "Filesystem 1024-blocks Used Available Capacity Mounted\\nd 9 9 2097152 9%% /data\\n"'


def answer(checkout, pattern, action):
    """Makes the interpreter in PATH do `action` where its arguments match `pattern`."""
    checkout.script('python3.11', f'case "$*" in {pattern}) {action} ;; *) exec "{sys.executable}" "$@" ;; esac')


def test_wrong_python(checkout):
    checkout.script('python3.11', 'exit 127')
    checkout.script('python3', 'echo 3.8')
    line = checkout.error()
    assert 'needs Python 3.10, 3.11 or 3.12 (3.11 is tested), but python3 is 3.8' in line
    assert 'PYTHON=/path/to/python3.11' in line
    assert not checkout.venv.exists()


def test_no_python(checkout):
    (checkout.bin / 'python3.11').unlink()
    assert 'no Python was found: install python3.11' in checkout.error()


def test_python_that_does_not_run(checkout):
    line = checkout.error(PYTHON='/nowhere/python')
    assert 'PYTHON=/nowhere/python cannot be run: name a Python interpreter' in line


def test_environment_of_a_wrong_python(checkout, fake_stack):
    python = checkout.venv / 'bin' / 'python'
    python.unlink()
    python.write_text('#!/bin/sh\necho 3.14\n')
    python.chmod(0o755)
    line = checkout.error()
    assert f'{checkout.venv} holds Python 3.14' in line
    assert 'PELK_MM_VENV' in line


def test_folder_that_is_no_environment_is_left_alone(checkout):
    place = checkout.folder / 'precious'
    place.mkdir()
    (place / 'file').touch()
    assert f'{place} exists and is not a virtual environment' in checkout.error(PELK_MM_VENV=str(place))
    assert (place / 'file').exists()


def test_no_compiler(checkout):
    (checkout.bin / 'c++').unlink()
    line = checkout.error()
    assert 'no C++ compiler (c++)' in line
    assert 'apt-get install g++' in line
    assert not checkout.venv.exists()


def test_no_python_headers(checkout):
    answer(checkout, '*sysconfig*', 'echo /nowhere')
    line = checkout.error()
    assert 'no Python headers (/nowhere/Python.h)' in line
    assert f'apt-get install python{VERSION}-dev' in line
    assert not checkout.venv.exists()


def test_compiler_that_is_too_old(checkout, fake_stack):
    checkout.script('c++', 'cat >/dev/null; echo "unrecognized option -std=c++17" >&2; exit 1')
    assert 'c++ does not compile C++17: install g++ 9 or later' in checkout.error()


def test_too_little_disk(checkout):
    checkout.keep_wheel()
    checkout.script('df', SMALL_DISK)
    line = checkout.error()
    assert 'too little disk space on /data: 2 GB free, about 7 GB needed' in line
    assert 'UV_CACHE_DIR, PELK_MM_VENV and TMPDIR' in line
    assert not checkout.venv.exists()


def test_the_same_disk_is_enough_where_the_cache_holds_the_stack(checkout):
    checkout.keep_wheel()
    checkout.script('df', SMALL_DISK)
    (checkout.folder / 'uv' / 'archive-v0' / 'x' / 'torch-2.11.0.dist-info').mkdir(parents=True)
    answer(checkout, '*"-m venv"*', 'exit 1')
    assert 'cannot make virtual environments' in checkout.error()  # the next step, so the disk was found large enough


def test_python_without_venv(checkout):
    checkout.keep_wheel()
    answer(checkout, '*"-m venv"*', 'exit 1')
    line = checkout.error()
    assert 'cannot make virtual environments' in line
    assert f'apt-get install python{VERSION}-venv' in line


def test_no_network_for_pip(checkout):
    checkout.keep_wheel()
    line = checkout.error(PIP_INDEX_URL='http://user:secret@127.0.0.1:9/simple', PIP_RETRIES='0')
    assert 'no network while installing uv: cannot reach the package index http://127.0.0.1:9/simple' in line
    assert 'name a mirror in PIP_INDEX_URL' in line
    assert 'secret' not in line


@pytest.mark.parametrize(
    ('message', 'advice'),
    [
        ('error: Failed to fetch: `https://index/simple/torch/`', 'no network while installing the pinned stack'),
        ('error: failed to write: No space left on device (os error 28)', 'the disk ran full while installing the'),
        ('error: torch has no wheel for this platform', 'mend what the last lines above name'),
    ],
)
def test_failed_download(checkout, fake_stack, message, advice):
    assert advice in checkout.error(FAKE_UV_ERROR=message)


def test_unknown_argument(checkout):
    assert 'unknown argument --force' in checkout.error('--force')


def test_cache_that_cannot_be_written(checkout):
    (checkout.folder / 'file').touch()
    checkout.env['PELK_MM_CACHE'] = str(checkout.folder / 'file' / 'cache')
    assert 'name another place in PELK_MM_CACHE' in checkout.error()


def test_help_names_the_variables(checkout):
    done = checkout.setup('--help')
    assert done.returncode == 0
    assert all(
        name in done.stdout
        for name in (
            'PYTHON',
            'PELK_MM_VENV',
            'PELK_MM_CACHE',
            'PELK_MM_MMCV_WHEELS',
            '--print-python',
            '--without-operators',
        )
    )


def test_scripts_parse():
    scripts = [*ROOT.glob('tools/**/*.sh'), ROOT / '.ci' / 'run']
    assert len(scripts) > 4
    for script in scripts:
        subprocess.run(['bash', '-n', str(script)], check=True)

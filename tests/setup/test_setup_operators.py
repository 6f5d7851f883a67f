"""Where mmcv's operators come from: nowhere, a wheel kept from before, a wheel of the user's, or a compiler."""

import platform

import pytest

pytestmark = pytest.mark.processes

BROKEN = 'raise ImportError("undefined symbol: _ZN2at")'
NOT_INSTALLED = 'mmcv.ops    not installed: bash tools/setup.sh adds them for detectors and the test suite'


def test_without_operators_no_compiler_is_needed(checkout, fake_stack):
    (checkout.bin / 'c++').unlink()
    # mmdet imports on no mmcv without operators
    (fake_stack / 'mmdet' / '__init__.py').write_text('import mmcv._ext')
    done = checkout.setup('--without-operators')
    assert done.returncode == 0, done.stderr
    assert '--no-binary onedl-mmcv onedl-mmcv==2.3.6' in checkout.calls
    assert checkout.builds == 0
    assert 'installing mmcv without its operators' in done.stdout
    assert NOT_INSTALLED in done.stdout
    assert 'pelk_mm     0.1.0' in done.stdout


def test_second_run_without_operators_asks_nothing(checkout, fake_stack):
    assert checkout.setup('--without-operators').returncode == 0
    calls = checkout.calls
    done = checkout.setup('--without-operators', '--print-python')
    assert done.returncode == 0, done.stderr
    assert done.stdout == f'{checkout.venv}/bin/python\n'
    assert checkout.calls == calls


def test_operators_are_added_in_place(checkout, fake_stack):
    assert checkout.setup('--without-operators').returncode == 0
    done = checkout.setup()
    assert done.returncode == 0, done.stderr
    assert checkout.builds == 1
    assert checkout.calls.count('lock.txt') == 1
    assert 'mmcv.ops    built for the CPU only' in done.stdout
    done = checkout.setup('--without-operators')  # and nothing takes them away again
    assert 'mmcv.ops    built for the CPU only' in done.stdout
    assert checkout.calls.count('--no-binary onedl-mmcv onedl-mmcv') == 1


def test_adding_operators_needs_a_compiler(checkout, fake_stack):
    assert checkout.setup('--without-operators').returncode == 0
    (checkout.bin / 'c++').unlink()
    assert 'no C++ compiler (c++)' in checkout.error()
    assert checkout.setup('--without-operators').returncode == 0


def test_kept_wheel_is_taken_without_being_asked_for(checkout, fake_stack):
    assert checkout.setup().returncode == 0
    second = checkout.folder / 'second'
    checkout.make_environment(second)
    done = checkout.setup('--without-operators', PELK_MM_VENV=str(second))
    assert done.returncode == 0, done.stderr
    assert "installing the kept wheel of mmcv's operators" in done.stdout
    assert 'mmcv.ops    built for the CPU only' in done.stdout


def test_kept_wheel_outlives_a_disk_that_runs_full(checkout, fake_stack):
    checkout.keep_wheel('torch2.11.0+cu130-cpu-linux_' + platform.machine())
    done = checkout.setup(FAKE_WHEEL_ERROR='error: No space left on device')
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert "the disk ran full while installing mmcv's wheel" in line
    assert list(checkout.cache.glob('wheels/*/*.whl'))


@pytest.mark.parametrize(
    ('place', 'option'),
    [
        ('a folder', '--no-index --find-links a folder'),
        ('https://wheels/cu130/index.html', '--no-index --find-links https://wheels/cu130/index.html'),
        ('https://wheels/cu130/simple/', '--index-url https://wheels/cu130/simple/'),
    ],
)
@pytest.mark.parametrize('flags', [(), ('--without-operators',)])
def test_wheel_of_the_users_is_taken_instead_of_building(checkout, fake_stack, place, option, flags):
    (checkout.bin / 'c++').unlink()
    done = checkout.setup(*flags, PELK_MM_MMCV_WHEELS=place, FAKE_PREBUILT='')
    assert done.returncode == 0, done.stderr
    assert option in checkout.calls
    assert checkout.builds == 0
    assert "took mmcv's operators from PELK_MM_MMCV_WHEELS" in done.stdout
    assert 'mmcv.ops    built for the CPU only' in done.stdout
    assert len(list(checkout.cache.glob('wheels/*/*.whl'))) == 1  # kept for the next environment


@pytest.mark.parametrize(
    ('env', 'reason'),
    [
        ({}, 'PELK_MM_MMCV_WHEELS=https://wheels holds no wheel of onedl-mmcv 2.3.6 for this Python'),
        ({'FAKE_PREBUILT': BROKEN}, 'does not fit: ImportError: undefined symbol: _ZN2at'),
    ],
)
def test_wheel_of_the_users_that_does_not_fit(checkout, fake_stack, env, reason):
    done = checkout.setup('--without-operators', PELK_MM_MMCV_WHEELS='https://user:secret@wheels', **env)
    assert done.returncode == 0, done.stderr
    assert reason in done.stdout
    assert 'secret' not in done.stdout
    assert NOT_INSTALLED in done.stdout
    done = checkout.setup(PELK_MM_MMCV_WHEELS='https://wheels', **env)
    assert done.returncode == 0, done.stderr
    assert reason in done.stdout
    assert checkout.builds == 1


def test_place_of_wheels_that_cannot_be_reached(checkout, fake_stack):
    env = {'PELK_MM_MMCV_WHEELS': 'https://wheels', 'FAKE_DOWNLOAD': 'WARNING: Connection refused'}
    line = checkout.error(**env)
    assert "no network while looking for mmcv's wheel in PELK_MM_MMCV_WHEELS" in line


def test_no_network_for_mmcv_without_operators(checkout, fake_stack):
    line = checkout.error('--without-operators', FAKE_MMCV_ERROR='error: Failed to fetch: `https://index/onedl-mmcv/`')
    assert 'no network while installing mmcv without its operators' in line


@pytest.mark.parametrize('script', ['tools/lint.sh', 'tools/run_tests.sh'])
def test_only_the_test_suite_asks_for_operators(checkout, fake_stack, script):
    checkout.setup(script=script)
    assert checkout.builds == (script == 'tools/run_tests.sh')

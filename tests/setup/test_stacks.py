"""tools/test_stack.sh over stand-ins: what it installs, builds and tests for each stack, and what it refuses."""

import pytest

pytestmark = pytest.mark.processes

SCRIPT = 'tools/test_stack.sh'


@pytest.fixture
def stack(checkout):
    """Call it with a stack's name for an environment that needs no download."""
    return lambda name: checkout.make_environment(checkout.cache / 'stacks' / name)


def test_the_whole_stack_builds_operators_once_and_tests(checkout, stack):
    stack('upstream')
    done = checkout.setup('upstream', script=SCRIPT)
    assert done.returncode == 0, done.stderr
    assert 'requirements/stacks/upstream.txt' in checkout.calls
    assert '--no-binary mmcv ' in checkout.calls
    assert ' mmcv==2.1.0\n' in checkout.calls
    assert checkout.builds == 1
    assert "'tests/test_plugin.py', 'tests/tools/test_standard_tools.py']" in done.stdout.splitlines()[-1]
    assert 'left out' not in done.stdout
    (checkout.root / 'tests' / 'ops').mkdir(parents=True)
    calls = checkout.calls
    again = checkout.setup('upstream', 'tests/ops', '-x', script=SCRIPT)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1].endswith("'tests/ops', '-x']")
    assert 'tests/models' not in again.stdout
    assert checkout.calls == calls


@pytest.mark.parametrize(
    ('name', 'left_out'),
    [
        ('upstream-light', "left out: mmcv's operators, mmdet, mmseg (bash tools/test_stack.sh upstream has them)"),
        ('newest', 'left out: mmcv and the toolboxes, which have no release for this torch'),
    ],
)
def test_a_light_stack_compiles_nothing_and_says_what_it_left_out(checkout, stack, name, left_out):
    stack(name)
    (checkout.bin / 'c++').unlink()
    done = checkout.setup(name, script=SCRIPT)
    if name == 'newest' and checkout.tag == 'cp310':
        assert done.stderr.startswith('error: the stack newest needs Python 3.13, 3.12 or 3.11, but')
        return
    if name == 'upstream-light' and checkout.tag == 'cp312':
        assert done.stderr.startswith('error: the stack upstream-light needs Python 3.10 or 3.11, but')
        return
    assert done.returncode == 0, done.stderr
    assert f'requirements/stacks/{name}.txt' in checkout.calls
    assert checkout.builds == 0
    assert left_out in done.stdout


def test_earlier_requirements_leave_nothing_behind(checkout, stack):
    site = stack('upstream-light')
    assert checkout.setup('upstream-light', script=SCRIPT).returncode == 0
    (checkout.root / 'requirements' / 'stacks' / 'upstream-light.txt').write_text('torch==2.2.0\n')
    checkout.setup('upstream-light', script=SCRIPT)
    assert not (site / 'mmpretrain').exists()


@pytest.mark.parametrize('name', ['', 'oldest', '-x'])
def test_an_unknown_stack(checkout, name):
    done = checkout.setup(name, script=SCRIPT)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: the stack must be upstream, upstream-light, newest or onedl, but got '{name}' (see --help)\n"
    )


def test_no_python_that_fits(checkout):
    checkout.script('python3.11', 'echo 3.8')
    done = checkout.setup('upstream', script=SCRIPT)
    assert done.returncode == 1
    assert done.stderr.startswith('error: the stack upstream needs Python 3.10 or 3.11, but python3.11 is 3.8')
    assert done.stderr.endswith('name one as PYTHON=/path/to/python3.10 bash tools/test_stack.sh upstream\n')
    assert not list(checkout.cache.glob('stacks/*'))

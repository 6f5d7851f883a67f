"""What every malformed input must meet: one clear line, the right status, and nothing lost, removed, run or left."""

import os
import re
from pathlib import Path

import pytest
from refusal import CANARY, HANGS_AFTER, content, ending
from tool_runner import run


@pytest.fixture
def refuse(monkeypatch, capsys):
    """``refuse(words, tool, *args, status=2)`` runs a tool in this process and checks how it ends.

    The tool must end with the status and one line that has the words, which are a regular expression. Files below the
    working directory are as before, but for logs and the lock of a run. No code of the input has run.
    """
    for name in ('PELK_MM_LOG', 'PELK_MM_REPORTS', 'LOCAL_RANK', 'RANK', 'WORLD_SIZE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr('sys.argv', ['tool.py'])
    environment = dict(os.environ)

    def refused(words, tool, *args, status=2):
        before = content()
        with ending(HANGS_AFTER):
            got = run(tool, *args)
        os.environ.clear()
        os.environ.update(environment)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        last = lines[-1] if lines else ''
        assert got == status, f'status {got}: {last}'
        assert last.startswith('error: '), lines
        assert sum(line.startswith('error: ') for line in lines) == 1, lines
        assert not [line for line in lines if 'Traceback' in line], lines
        assert 'failed unexpectedly' not in last, last
        assert last.isprintable()
        assert len(last) < 1500, last
        assert re.search(words, last), last
        after = content()
        assert {name: data for name, data in after.items() if name in before} == before
        assert not [name for name in after if name.endswith('.partial')]
        assert not Path(CANARY).exists()

    return refused


@pytest.fixture
def seg(project, checkpoints):
    """A segmentor's config ``seg.py`` with its weights ``seg.pth``; so for ``cls`` and ``det``."""
    return project

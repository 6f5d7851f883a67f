"""What the import contracts of pyproject.toml cannot say: where in a file a toolbox may be imported."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'pelk_mm'
TOOLBOXES = {'mmcv', 'mmpretrain', 'mmseg', 'mmdet'}


def imports_at_the_top(tree):
    """Names of the packages that importing a module imports, those under an if, a try or in a class among them."""
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.partition('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition('.')[0]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)


def test_what_is_seen():
    text = 'import a.b\ntry:\n  from c.d import e\nexcept E:\n  import f\nclass X:\n  import g\ndef h():\n  import i\n'
    assert set(imports_at_the_top(ast.parse(text))) == {'a', 'c', 'f', 'g'}
    assert not set(imports_at_the_top(ast.parse('from . import mmseg\nfrom ..mmdet import x\n')))


def test_no_module_imports_a_toolbox_at_its_top():
    found = {
        str(path.relative_to(ROOT)): names
        for path in PACKAGE.rglob('*.py')
        if '.mim' not in path.parts
        and (names := TOOLBOXES & set(imports_at_the_top(ast.parse(path.read_text(encoding='utf-8')))))
    }
    assert not found


def test_every_room_says_what_it_is():
    rooms = [path.parent for path in PACKAGE.rglob('__init__.py') if '.mim' not in path.parts]
    assert len(rooms) > 20
    for room in rooms:
        assert ast.get_docstring(ast.parse((room / '__init__.py').read_text(encoding='utf-8'))), room


def test_files_stay_short():
    lines = {p: len(p.read_text(encoding='utf-8').splitlines()) for p in PACKAGE.rglob('*.py') if '.mim' not in p.parts}
    assert not {path.name for path, n in lines.items() if n > 350} - {'triton_kernels.py'}

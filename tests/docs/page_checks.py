"""What is wrong with the pages of a repository, each fault as one line that names file and line."""

import re
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from urllib.parse import unquote

from page_reader import Page, Piece, count_words, read_page

#: Something that looks like a path of this repository; braces may hold commas.
PATH = re.compile(r'(?<![\w./$~-])(?:\./)?(?:tools|configs|docs|tests|pelk_mm)/(?:\{[^{}\s]*\}|[^\s`\'"(),;:{}|\[\]])*')
BRACES = re.compile(r'\{([^{}]*)\}')
PLACEHOLDER = re.compile(r'[$<>]|\.\.\.|(?<![A-Za-z])(?!README|CHANGELOG|LICENSE)[A-Z][A-Z_]+(?![A-Za-z])')


def place(path: Path, piece: Piece, root: Path) -> str:
    """How a fault names where it stands."""
    return f'{path.relative_to(root)}:{piece.line}'


def internal_links(page: Page) -> Iterator[tuple[Piece, str, str]]:
    """Each link within the repository, its path ('' for the same page) and its anchor."""
    for link in page.links:
        if not re.match(r'[a-z][a-z0-9+.-]*:', link.text):
            target, _, anchor = link.text.partition('#')
            yield link, unquote(target), anchor


def resolve(path: Path, target: str, root: Path) -> Path:
    """The file that ``target`` on the page at ``path`` names."""
    if target.startswith('/'):
        return root / target[1:]
    return (path.parent / target).resolve() if target else path


def broken_links(path: Path, root: Path) -> list[str]:
    """Links and images of the page that lead to no file of the repository, or to no heading."""
    faults = []
    for link, target, anchor in internal_links(read_page(path)):
        file = resolve(path, target, root)
        if not file.is_relative_to(root) or not file.exists():
            faults.append(f'{place(path, link, root)} links {link.text}, which does not exist')
        elif anchor and file.suffix == '.md' and anchor not in read_page(file).anchors:
            faults.append(f'{place(path, link, root)} links {link.text}, but {file.name} has no such heading')
    return faults


def reachable(start: Path, root: Path, clicks: int) -> set[Path]:
    """The pages that are at most ``clicks`` links away from the page ``start``."""
    seen = newest = {start}
    for _ in range(clicks):
        targets = {resolve(path, target, root) for path in newest for _, target, _ in internal_links(read_page(path))}
        newest = {path for path in targets if path.suffix == '.md' and path.is_file()} - seen
        seen = seen | newest
    return seen


def long_sentences(path: Path, root: Path, most: int) -> list[str]:
    """Sentences of more than ``most`` words."""
    page = read_page(path)
    counted = [(sentence, count_words(sentence.text)) for sentence in page.sentences()]
    return [
        f'{place(path, sentence, root)} has {words} words in a sentence: {page.written(sentence.text)}'
        for sentence, words in counted
        if words > most
    ]


def expand(pattern: str) -> Iterable[str]:
    """``a{b,c}`` as ``ab`` and ``ac``."""
    pieces = BRACES.split(pattern)
    choices = [[piece] if index % 2 == 0 else piece.split(',') for index, piece in enumerate(pieces)]
    return map(''.join, product(*choices))


def missing_paths(path: Path, root: Path) -> list[str]:
    """Paths in inline code and code blocks that name nothing in the repository; placeholders are passed over."""
    page = read_page(path)
    faults = []
    for piece in sorted([*page.inline, *page.code], key=lambda piece: piece.line):
        for match in PATH.finditer(piece.text):
            name = match[0].removeprefix('./').rstrip('.')
            if PLACEHOLDER.search(match[0]):
                continue
            if any(not _is_there(one, root) for one in expand(name)):
                faults.append(f'{place(path, piece, root)} names {name}, which does not exist')
    return faults


def _is_there(name: str, root: Path) -> bool:
    return any(root.glob(name)) if re.search(r'[*?]', name) else (root / name).exists()

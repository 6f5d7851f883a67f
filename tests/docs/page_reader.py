"""Reads a Markdown page into what the checks of the documentation look at: what the pages here use of Markdown."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

FENCE = re.compile(r'\s*(`{3,}|~{3,})')
HEADING = re.compile(r'#{1,6}\s+(.*?)\s*#*$')
ITEM = re.compile(r'\s*(?:[-*+]|\d+[.)])\s+(.*)')
COMMENT = re.compile(r'<!--.*?-->')
CODE = re.compile(r'(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)', re.DOTALL)
IMAGE = re.compile(r'!\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)')
LINK = re.compile(r'\[([^\[\]]*(?:\[[^\]]*\][^\[\]]*)*)\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)')
DEFINITION = re.compile(r'\s*\[[^\]]+\]:\s+(\S+)')
SOURCE = re.compile(r'<[^>]*?\b(?:src|href)="([^"]+)"')
NAMED = re.compile(r'<[^>]*?\b(?:id|name)="([^"]+)"')
TAG = re.compile(r'</?[a-zA-Z][^>]*>')
#: Inline code is one letter of Unicode's private area, so that nothing in it is read as a link, a word or a full stop.
FIRST_CODE = 0xE000
CODE_LETTER = '[\ue000-\uf8ff]'
WORD = re.compile(rf'{CODE_LETTER}|(?:(?!{CODE_LETTER})\S)*\w(?:(?!{CODE_LETTER})\S)*')
END = re.compile(r'[.?!][*_"\')\]]*(?=\s|$)')
ABBREVIATIONS = ('et al.', 'e.g.', 'i.e.', 'cf.', 'vs.')


@dataclass(frozen=True)
class Piece:
    """Some text and the line where it begins."""

    line: int
    text: str


@dataclass(frozen=True)
class Block:
    """A code block between fences: its language, and its text without the indentation of the list it stands in."""

    language: str
    text: str


@dataclass
class Page:
    """A page's parts in their order.

    Attributes:
        prose: Headings, paragraphs and list items, without markup; inline code is one letter of ``inline``.
        headings: Their texts as they are written.
        links: Targets of links and images.
        anchors: What a link's ``#`` may name.
        inline: Inline code, by its place.
        code: Lines of code blocks.
        blocks: Code blocks that stand between fences.
        tables: How many there are.
    """

    prose: list[Piece] = field(default_factory=list)
    headings: list[Piece] = field(default_factory=list)
    links: list[Piece] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    inline: list[Piece] = field(default_factory=list)
    code: list[Piece] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    tables: int = 0

    @property
    def words(self) -> int:
        """Of the prose; inline code is one word."""
        return sum(count_words(piece.text) for piece in self.prose)

    def sentences(self) -> list[Piece]:
        """The prose cut at full stops, question marks and exclamation marks; a heading or list item ends one too."""
        return [sentence for piece in self.prose for sentence in split_sentences(piece)]

    def written(self, text: str) -> str:
        """``text`` with its inline code put back, on one line."""

        def put_back(match: re.Match) -> str:
            return f'`{self.inline[ord(match[0]) - FIRST_CODE].text}`'

        return ' '.join(re.sub(CODE_LETTER, put_back, text).split())


def count_words(text: str) -> int:
    """Words are what stands between spaces and has a letter or digit; inline code is one."""
    return len(WORD.findall(text))


def split_sentences(piece: Piece) -> list[Piece]:
    """Cut ``piece`` after each end of a sentence."""
    sentences, start = [], 0
    for end in END.finditer(piece.text):
        before, after = piece.text[: end.end()], piece.text[end.end() :].lstrip()
        if before.endswith(ABBREVIATIONS) or (before.endswith('...') and after[:1].islower()):
            continue
        sentences.append((start, end.end()))
        start = end.end()
    sentences.append((start, len(piece.text)))
    found = []
    for first, last in sentences:
        text = piece.text[first:last]
        if count_words(text):
            skipped = first + len(text) - len(text.lstrip())
            found.append(Piece(piece.line + piece.text.count('\n', 0, skipped), text.strip()))
    return found


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading, but for the number behind a repeated one."""
    text = LINK.sub(r'\1', IMAGE.sub('', heading)).replace('*', '').replace('`', '')
    return re.sub(r'[^\w\- ]', '', TAG.sub('', text).lower()).replace(' ', '-')


def read_page(path: Path) -> Page:
    """Read the page at ``path``."""
    return _Reader().read(path.read_text(encoding='utf-8'))


class _Reader:
    def __init__(self) -> None:
        self.page = Page()
        self.block: list[str] = []  # lines of the paragraph or list item being read
        self.block_line = 0
        self.in_list = self.in_table = False

    def read(self, text: str) -> Page:
        fence = ''  # of the code block being read, whose language and lines are:
        language, lines = '', []
        comment = False
        for number, line in enumerate(text.splitlines(), 1):
            if fence:
                if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                    fence = ''
                    self.page.blocks.append(Block(language, dedent('\n'.join(lines))))
                else:
                    self.page.code.append(Piece(number, line))
                    lines.append(line)
                continue
            if comment:
                inside, closed, line = line.partition('-->')
                if not closed:
                    continue
                comment = False
            if '<!--' in line and '`' not in line:
                line = COMMENT.sub('', line)
                line, comment_mark, _ = line.partition('<!--')
                comment = bool(comment_mark)
            opened = FENCE.match(line)
            if opened:
                self.end_block()
                self.in_table = False
                fence, language, lines = opened[1], line[opened.end() :].strip(), []
            else:
                self.read_line(number, line)
        self.end_block()
        return self.page

    def read_line(self, number: int, line: str) -> None:
        """Read a line that is neither code between fences nor a comment."""
        stripped = line.strip()
        row, self.in_table = self.in_table, stripped.startswith('|')
        if self.in_table:
            self.end_block()
            self.page.tables += not row
            self.inline_parts(number, stripped)
        elif not stripped:
            self.end_block()
        elif heading := HEADING.match(line):
            self.end_block()
            self.in_list = False
            self.add_heading(Piece(number, heading[1]))
            self.add_prose(number, heading[1])
        elif line.startswith('    ') and not self.block and not self.in_list:
            self.page.code.append(Piece(number, stripped))
        elif definition := DEFINITION.match(line):
            self.page.links.append(Piece(number, definition[1]))
        elif item := ITEM.match(line):
            self.end_block()
            self.in_list = True
            self.begin_block(number, item[1])
        else:
            if not self.block:
                self.in_list = self.in_list and line.startswith(' ')
            self.begin_block(number, stripped.lstrip('> '))

    def begin_block(self, number: int, text: str) -> None:
        """Begin a paragraph or list item with ``text``, or add it to the one that has begun."""
        if not self.block:
            self.block_line = number
        self.block.append(text)

    def end_block(self) -> None:
        """Put the paragraph or list item that was read on the page."""
        if self.block:
            self.add_prose(self.block_line, '\n'.join(self.block))
        self.block = []

    def add_heading(self, heading: Piece) -> None:
        self.page.headings.append(heading)
        anchor = first = slug(heading.text)
        number = 0
        while anchor in self.page.anchors:
            number += 1
            anchor = f'{first}-{number}'
        self.page.anchors.add(anchor)

    def add_prose(self, number: int, text: str) -> None:
        text = self.inline_parts(number, text)
        if count_words(text):
            self.page.prose.append(Piece(number, text))

    def inline_parts(self, number: int, text: str) -> str:
        """Note code and links of ``text``, and return what is read aloud."""

        def note_code(match: re.Match) -> str:
            self.page.inline.append(Piece(number + text.count('\n', 0, match.start()), match[2]))
            return chr(FIRST_CODE + len(self.page.inline) - 1) + '\n' * match[0].count('\n')

        def noting(group: int):
            def note(match: re.Match) -> str:
                self.page.links.append(Piece(number + plain.count('\n', 0, match.start()), match[group]))
                return match[1] if group == 2 else ''

            return note

        plain = CODE.sub(note_code, text)
        self.page.anchors.update(NAMED.findall(plain))
        for match in SOURCE.finditer(plain):
            self.page.links.append(Piece(number + plain.count('\n', 0, match.start()), match[1]))
        plain = IMAGE.sub(noting(1), plain)
        plain = LINK.sub(noting(2), plain)
        return TAG.sub('', plain)

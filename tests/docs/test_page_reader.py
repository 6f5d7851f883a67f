"""What the checks of the documentation see on made-up pages, and that each of them can fail."""

from textwrap import dedent

import pytest
from page_checks import broken_links, expand, long_sentences, missing_paths, reachable
from page_reader import Block, count_words, read_page, slug


@pytest.fixture
def write(tmp_path):
    """Writes a page and returns its path."""

    def write(text, name='page.md'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip('\n'))
        return path

    return write


def read(write, text):
    return read_page(write(text))


class TestReader:
    def test_prose_is_what_is_read_aloud(self, write):
        page = read(
            write,
            """
            # A title

            One paragraph
            of **two** lines.

            - an item with `some code`
              on two lines
            1. [linked text](there.md) and ![not this](picture.png)

            > quoted

            <!-- not
            this --> but this

            | nor | a |
            |---|---|
            | table | row |

            ```bash
            nor code
            ```

                nor indented code
            """,
        )
        assert [(piece.line, page.written(piece.text)) for piece in page.prose] == [
            (1, 'A title'),
            (3, 'One paragraph of **two** lines.'),
            (6, 'an item with `some code` on two lines'),
            (8, 'linked text and'),
            (10, 'quoted'),
            (13, 'but this'),
        ]
        assert page.words == 2 + 5 + 7 + 3 + 1 + 2
        assert [piece.text for piece in page.code] == ['nor code', 'nor indented code']
        assert page.blocks == [Block('bash', 'nor code')]
        assert page.tables == 1

    def test_tables_are_counted_one_by_one(self, write):
        assert read(write, '| a |\n|---|\n| b |\n\n| c |\n|---|\n').tables == 2
        assert read(write, '| a |\n|---|\n```\n```\n| c |\n|---|\n').tables == 2

    def test_a_fence_ends_where_it_should(self, write):
        page = read(write, '````\n```\n[a](b.md)\n````\nafter\n')
        assert [piece.text for piece in page.prose] == ['after']
        assert page.links == []

    def test_a_list_goes_over_its_code(self, write):
        page = read(write, '- item\n\n  ```bash\n  code\n  ```\n\n    more of the item\n\nend\n')
        assert [piece.text for piece in page.prose] == ['item', 'more of the item', 'end']

    def test_links(self, write):
        page = read(
            write,
            """
            [a](one.md) `[no](link.md)` ![b](two.png "title")
            and [![c](three.png)](four.md#there)
            <img src="five.png" alt="d"> <a href="six.md">e</a>

            | [f](seven.md) |
            |---|

            [g]: eight.md
            ```
            [no](link.md)
            ```
            """,
        )
        found = sorted((piece.line, piece.text) for piece in page.links)
        assert found == sorted(
            [
                (1, 'one.md'),
                (1, 'two.png'),
                (2, 'three.png'),
                (2, 'four.md#there'),
                (3, 'five.png'),
                (3, 'six.md'),
                (5, 'seven.md'),
                (8, 'eight.md'),
            ]
        )

    def test_anchors(self, write):
        page = read(write, '# Same\n## Same\n## `code` and [a link](x.md): "quoted"!\n<a id="named"></a>\n')
        assert page.anchors == {'same', 'same-1', 'code-and-a-link-quoted', 'named'}

    @pytest.mark.parametrize(
        ('heading', 'anchor'),
        [
            ('The kernel of a layer', 'the-kernel-of-a-layer'),
            ("D6: whole filters where SW's code leaves room", 'd6-whole-filters-where-sws-code-leaves-room'),
            ('torch.export and ONNX', 'torchexport-and-onnx'),
            ('`set_backend` - twice', 'set_backend---twice'),
        ],
    )
    def test_slug_is_that_of_github(self, heading, anchor):
        assert slug(heading) == anchor

    @pytest.mark.parametrize(
        ('text', 'words'),
        [('two words', 2), ('a - b', 2), ('8 x 36, K = 51', 5), ("Chen's 51x51-kernel", 2), ('', 0)],
    )
    def test_words(self, text, words):
        assert count_words(text) == words

    def test_inline_code_is_one_word(self, write):
        assert read(write, 'See `python tools/train.py --resume`, twice.').words == 3

    def test_sentences(self, write):
        page = read(
            write,
            """
            # A heading

            One is 3.4. **Two, with e.g. `a. b`.** Three (as
            Chen et al. say)! Is it four? 1, 2, ... numbers: all one; still one

            - an item
            - `mode='x'` is another
            """,
        )
        assert [(piece.line, page.written(piece.text)) for piece in page.sentences()] == [
            (1, 'A heading'),
            (3, 'One is 3.4.'),
            (3, '**Two, with e.g. `a. b`.**'),
            (3, 'Three (as Chen et al. say)!'),
            (4, 'Is it four?'),
            (4, '1, 2, ... numbers: all one; still one'),
            (6, 'an item'),
            (7, "`mode='x'` is another"),
        ]


class TestLinks:
    @pytest.mark.parametrize(
        ('link', 'fault'),
        [
            ('other.md', None),
            ('folder', None),
            ('/other.md', None),
            ('other.md#a-heading', None),
            ('#here', None),
            ('https://example.org/absent', None),
            ('absent.md', 'page.md:3 links absent.md, which does not exist'),
            ('../other.md', 'page.md:3 links ../other.md, which does not exist'),
            ('other.md#absent', 'page.md:3 links other.md#absent, but other.md has no such heading'),
            ('#absent', 'page.md:3 links #absent, but page.md has no such heading'),
        ],
    )
    def test_faults(self, write, tmp_path, link, fault):
        write('# A heading\n', 'other.md')
        write('', 'folder/file')
        path = write(f'# Here\n\nsee [this]({link})\n')
        assert broken_links(path, tmp_path) == ([fault] if fault else [])

    def test_images(self, write, tmp_path):
        path = write('![a](absent.png) <img src="gone.png">\n')
        assert [fault.split()[2] for fault in broken_links(path, tmp_path)] == ['gone.png,', 'absent.png,']


def test_reachable(write, tmp_path):
    start = write('[one](docs/one.md) [gone](docs/gone.md)', 'README.md')
    one = write('[two](two.md#a) [back](../README.md)', 'docs/one.md')
    two = write('[three](deep/three.md)', 'docs/two.md')
    three = write('', 'docs/deep/three.md')
    write('[one](one.md)', 'docs/lost.md')
    assert reachable(start, tmp_path, 0) == {start}
    assert reachable(start, tmp_path, 2) == {start, one, two}
    assert reachable(start, tmp_path, 3) == reachable(start, tmp_path, 9) == {start, one, two, three}


def test_long_sentences(write, tmp_path):
    path = write('Short. This one is\ntoo `very much so` long.\n\n- too long as an item\n')
    assert long_sentences(path, tmp_path, 6) == []
    assert long_sentences(path, tmp_path, 5) == [
        'page.md:1 has 6 words in a sentence: This one is too `very much so` long.'
    ]
    assert [fault.split(' has')[0] for fault in long_sentences(path, tmp_path, 4)] == ['page.md:1', 'page.md:4']


class TestPaths:
    @pytest.mark.parametrize(
        'text',
        [
            '`tools/train.py`',
            '`configs/net_{t,s}.py`',
            '`configs/net_*.py`',
            '`configs/`',
            '`./configs/net_t.py`',
            '`python tools/train.py configs/net_t.py --work-dir work_dirs/tools/x`',
            '`configs/NET_imagenet.py` `configs/${net}.py` `configs/net_..._ade.py` `docs/<page>.md`',
            'configs/absent.py in prose',
            '`other/configs/absent.py` `PELK/tools/absent.py`',
            "```python\n_base_ = './configs/net_t.py'  # as tools/train.py, says\n```",
        ],
    )
    def test_without_fault(self, write, tmp_path, text):
        for name in ('tools/train.py', 'configs/net_t.py', 'configs/net_s.py'):
            write('', name)
        assert missing_paths(write(text + '\n'), tmp_path) == []

    @pytest.mark.parametrize(
        ('text', 'name'),
        [
            ('`tools/absent.py`', 'tools/absent.py'),
            ('`configs/net_{t,x}.py`', 'configs/net_{t,x}.py'),
            ('`configs/other_*.py`', 'configs/other_*.py'),
            ('`configs/README.md`', 'configs/README.md'),
            ('`pelk_mm/absent/`', 'pelk_mm/absent/'),
            ('```bash\npython tools/absent.py CONFIG\n```', 'tools/absent.py'),
            ('| `docs/absent.md` |', 'docs/absent.md'),
        ],
    )
    def test_faults(self, write, tmp_path, text, name):
        write('', 'configs/net_t.py')
        (fault,) = missing_paths(write(text + '\n'), tmp_path)
        assert fault.endswith(f' names {name}, which does not exist')

    def test_braces(self):
        assert list(expand('a{b,c}d{,e}')) == ['abd', 'abde', 'acd', 'acde']

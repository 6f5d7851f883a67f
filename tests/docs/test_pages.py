"""The documentation is whole, short and to be found."""

from pathlib import Path

import pytest
from page_checks import broken_links, long_sentences, missing_paths, reachable
from page_reader import read_page

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / 'README.md'
DOCS = sorted((ROOT / 'docs').rglob('*.md'))
LINKED = [README, *DOCS, ROOT / 'CHANGELOG.md', *sorted((ROOT / 'configs').rglob('*.md'))]
# What a newcomer reads.
PLAIN = [README, *(path for path in DOCS if path.parent.name in ('docs', 'start', 'guide'))]
CLICKS = 3
WORDS_OF_A_PAGE, WORDS_OF_THE_README, TABLES_OF_THE_README = 1500, 700, 2
WORDS_OF_A_SENTENCE = 40


def pages(paths):
    return pytest.mark.parametrize('path', paths, ids=lambda path: str(path.relative_to(ROOT)))


@pages(LINKED)
def test_links_lead_somewhere(path):
    faults = broken_links(path, ROOT)
    assert faults == [], '\n'.join(faults)


def test_every_page_is_found_from_the_readme():
    found = reachable(README, ROOT, CLICKS)
    lost = [str(path.relative_to(ROOT)) for path in DOCS if path not in found]
    assert lost == [], f'more than {CLICKS} clicks from README.md'


@pages(DOCS)
def test_a_page_is_read_in_one_sitting(path):
    words = read_page(path).words
    assert words <= WORDS_OF_A_PAGE, f'{path.name} has {words} words of prose: split it'


def test_the_readme_is_an_overview():
    page = read_page(README)
    words, tables = page.words, page.tables
    assert words <= WORDS_OF_THE_README, f'README.md has {words} words of prose: docs/ is the place for more'
    assert tables <= TABLES_OF_THE_README


@pages(PLAIN)
def test_sentences_are_short(path):
    faults = long_sentences(path, ROOT, WORDS_OF_A_SENTENCE)
    assert faults == [], '\n'.join(faults)


@pages([README, *DOCS])
def test_paths_that_pages_name_exist(path):
    faults = missing_paths(path, ROOT)
    assert faults == [], '\n'.join(faults)

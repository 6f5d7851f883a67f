"""Read an HTML page as a browser would, strictly: what tags it has, where its links lead, what it says."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

#: Elements without an end.
VOID = {'meta', 'img', 'br', 'hr', 'link', 'input'}


class Page(HTMLParser):
    """A page from disk. ``tags`` has (name, attributes) of each element, ``text`` what is read, piece by piece."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.path = Path(path)
        self.tags, self.text, self._open = [], [], []
        self.feed(self.path.read_bytes().decode())
        self.close()
        assert self._open == [], f'not ended: {self._open}'

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f'{tag} has an attribute twice: {attributes}'
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open, f'</{tag}> ends nothing'
        assert self._open.pop() == tag, f'</{tag}> ends another element'

    def handle_data(self, data):
        if data.strip() and self._open[-1] != 'style':
            self.text.append(data.strip())

    def all(self, tag):
        """The attributes of every element of that name."""
        return [attributes for name, attributes in self.tags if name == tag]

    def files(self):
        """The files that the page shows or links to; each must be a relative path, and there."""
        links = [tag['src'] for tag in self.all('img')] + [tag['href'] for tag in self.all('a')]
        found = []
        for link in links:
            scheme, host, path, query, fragment = urlsplit(link)
            assert (scheme, host, query, fragment) == ('', '', '', ''), link
            assert not path.startswith('/'), link
            file = self.path.parent / unquote_to_bytes(path).decode(errors='surrogateescape')
            assert file.is_file(), link
            found.append(file)
        return found

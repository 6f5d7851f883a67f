"""The page that shows the predictions of a folder: one HTML file beside them, which any browser opens from disk.

It holds no script and loads nothing but the pictures it shows, by paths relative to itself.
"""

import os
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from ..utils.pictures import Legend
from .prediction import Prediction

PAGE = 'index.html'
#: What the names of images end in that browsers show, in lower case.
SHOWN_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
#: Narrower pictures are enlarged by a whole factor until they are about as wide, in pixels.
MIN_WIDTH = 240
STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #57606a; --line: #d0d7de; --paper: #fff; --bar: #0969da; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --soft: #9aa4af; --line: #3d444d; --paper: #0d1117; --bar: #4493f8; }
}
body { margin: 0 auto; padding: 1rem; max-width: 75rem; color: var(--text); background: var(--paper);
  font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
h2 { font-size: 1rem; margin: 0; }
a { color: var(--bar); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0 0 1rem; }
dt, figcaption, .soft { color: var(--soft); }
dd, p, figure { margin: 0; }
.legend { position: sticky; top: 0; max-height: 25vh; overflow: auto; margin: 0; padding: .5rem 0; list-style: none;
  display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; background: var(--paper); border-bottom: 1px solid var(--line); }
.legend i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border: 1px solid var(--soft);
  vertical-align: -.06em; }
article { padding: 1rem 0; border-bottom: 1px solid var(--line); }
article > div { display: flex; flex-wrap: wrap; gap: .75rem; margin: .5rem 0; }
figure { flex: 0 1 auto; max-width: calc(50% - .375rem); }
figcaption, .links { font-size: .875rem; }
img { display: block; max-width: 100%; height: auto; }
.enlarged { image-rendering: pixelated; }
table { align-self: start; border-spacing: 0; }
td { padding: .15rem .75rem .15rem 0; }
td:nth-child(2) { width: 8rem; }
td:last-child { text-align: right; font-variant-numeric: tabular-nums; }
td b { display: block; height: .7rem; min-width: 1px; background: var(--bar); }
.skipped { padding-left: 1.2rem; }
@media (max-width: 40rem) { figure { max-width: 100%; } .legend { position: static; max-height: none; } }
""".strip()


def page_path(source: str | Path, out_dir: str | Path) -> Path | None:
    """Where the page goes: into the results' folder if ``source`` is a folder; None if it is a single image."""
    return Path(out_dir, PAGE) if Path(source).is_dir() else None


def page_html(predictions: Sequence[Prediction], total: int, config: str, checkpoint: str, folder: Path) -> str:
    """The page as text.

    Every image is shown beside its overlay or its best classes, with its summary and links to its files; a legend
    names the colours of the label maps, the classes of most images first; skipped images follow with their reasons.

    Args:
        predictions: In the order to show; those with an ``error`` are listed as skipped.
        total: The number of images there were to predict; the page says so where it exceeds that of ``predictions``.
        config: Path of the config file, to print.
        checkpoint: Path of the checkpoint, to print.
        folder: Where the page will lie; links are relative to it.
    """
    done = [prediction for prediction in predictions if prediction.error is None]
    skipped = [prediction for prediction in predictions if prediction.error is not None]
    images = str(len(done)) + (f', {len(skipped)} skipped' if skipped else '')
    if left := total - len(predictions):
        images += f', {left} not reached: the run was interrupted'
    facts = {'config': config, 'checkpoint': checkpoint, 'images': images}
    legend = Counter(entry for prediction in done for entry in prediction.found.legend)
    parts = [
        '<h1>Predictions</h1>',
        f'<dl>{"".join(f"<dt>{name}</dt><dd>{_text(fact)}</dd>" for name, fact in facts.items())}</dl>',
        *([_legend([entry for entry, _ in legend.most_common()])] if legend else []),
        *(_article(prediction, folder) for prediction in done),
        *([_skipped(skipped)] if skipped else []),
    ]
    body = '\n'.join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>Predictions</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n'
    )


def _legend(legend: Legend) -> str:
    items = (f'<li><i style="background:rgb{colour}"></i>{_text(name)}</li>' for name, colour in legend)
    return f'<ul class="legend">{"".join(items)}</ul>'


def _article(prediction: Prediction, folder: Path) -> str:
    pictures = []
    if prediction.image.suffix.lower() in SHOWN_SUFFIXES:
        pictures.append(_figure(prediction.image, 'input', prediction, folder))
        without = ''
    else:
        without = f'<p class="soft">The input is not shown: browsers do not show {_text(prediction.image.suffix)}.</p>'
    for path in prediction.outputs:
        if path.name.endswith('_overlay.png'):
            pictures.append(_figure(path, 'overlay', prediction, folder))
    if prediction.found.top:
        pictures.append(_table(prediction.found.top))
    links = (f'<a href="{_url(path, folder)}">{_text(path.name)}</a>' for path in prediction.outputs)
    return (
        f'<article>\n<h2>{_text(prediction.image.name)}</h2>\n<p>{_text(prediction.summary)}</p>\n{without}'
        f'<div>{"".join(pictures)}</div>\n<p class="links">{" · ".join(links)}</p>\n</article>'
    )


def _figure(path: Path, caption: str, prediction: Prediction, folder: Path) -> str:
    width, height = prediction.size
    factor = -(-MIN_WIDTH // width)
    enlarged = ' class="enlarged"' if factor > 1 else ''
    # With their size given, pictures take their room before they are loaded, and only those in view are.
    return (
        f'<figure><img src="{_url(path, folder)}" alt="{caption} of {_text(prediction.image.name)}" '
        f'width="{width * factor}" height="{height * factor}" loading="lazy"{enlarged}>'
        f'<figcaption>{caption}</figcaption></figure>'
    )


def _table(top: Sequence[tuple[str, float]]) -> str:
    rows = (
        f'<tr><td>{_text(name)}</td><td><b style="width:{100 * score:.1f}%"></b></td><td>{score:.3f}</td></tr>'
        for name, score in top
    )
    return f'<table>{"".join(rows)}</table>'


def _skipped(predictions: Sequence[Prediction]) -> str:
    items = (f'<li>{_text(each.image.name)}: {_text(each.error or "")}</li>' for each in predictions)
    return f'<article>\n<h2>Skipped</h2>\n<ul class="skipped">{"".join(items)}</ul>\n</article>'


def _text(text: str) -> str:
    """Escaped for HTML; bytes of a file name that are no text become replacement characters."""
    return escape(text.encode(errors='surrogateescape').decode(errors='replace'))


def _url(path: Path, folder: Path) -> str:
    """The path from the page's folder, every character that means something in a URL percent-encoded."""
    return quote(os.fsencode(os.path.relpath(path, folder)))

"""``review.html``: one page with its style, script and facts in it, so that it opens from a disk as well as from a
server. Its pictures lie beside it, or in it."""
from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from weclip_sam.review import problems
from weclip_sam.review.entries import Entry
from weclip_sam.review.layers import HATCHES

FILES = Path(__file__).parent / 'page'
SCRIPTS = ('state.js', 'list.js', 'viewer.js', 'keys.js')
RANKING = (problems.__doc__ or '').split('\n\n')[1].replace('\n', ' ')
_DOUBTS = dict(cam='CAM', sam='SAM', decoder='decoder')


def to_html(entries: Sequence[Entry], classes: Sequence[str], palette: Sequence[Sequence[int]], out: Path, title: str,
            about: str, key: str, order: str = 'worst', note: str = '') -> str:
    """The whole page; whatever comes from files is escaped.

    Args:
        entries: in their order, the worst first.
        classes: C+1 names by label.
        palette: RGB triples by label.
        out: the folder of the page: photos are linked relative to it.
        title, about: above everything, and what the labels were made with.
        key: under which the browser keeps the marks.
        order: a key of :data:`weclip_sam.choices.ORDERS`, which the page begins with.
        note: what is to be known of all images; CLIP's word does not count then.
    """
    script = "'use strict';\n(() => {\n" + ''.join(_read(name) for name in SCRIPTS) + '})();\n'
    style = _read('page.css')
    by_name = {name: place for place, name in enumerate(sorted(entry.name for entry in entries))}
    data = dict(
        key=key, classes=list(classes), palette=['#' + bytes(map(int, colour)).hex() for colour in palette],
        order=order, kinds=problems.KINDS, orders=problems.ORDERS,
        low=dict(confidence=problems.UNSURE, CLIP=0 if note else problems.UNSEEN),
        doubts={who: dict(words=words, color='#' + bytes(HATCHES[who]).hex()) for who, words in _DOUBTS.items()},
        images=[_image(entry, by_name[entry.name], out) for entry in entries])
    pages = Environment(loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                        lstrip_blocks=True)
    pages.policies['json.dumps_kwargs'] = {}  # the order of what it says means something
    return pages.get_template('page.html.j2').render(
        title=title, about=about, data=data, style=Markup(style), script=Markup(script), style_hash=_hash(style),
        script_hash=_hash(script), ranking=RANKING, note=note)


def _image(entry: Entry, place: int, out: Path) -> dict[str, Any]:
    facts = entry.facts
    return dict(
        name=entry.name, place=place, photo=str(entry.photo or ''),
        link='' if entry.lost else _link(entry.photo, out), lost=entry.lost, size=entry.size,
        digest=entry.digest, areas=_rounded(facts.areas), ignored=round(facts.ignored, 5),
        background=round(max(0.0, 1 - facts.ignored - sum(facts.areas.values())), 5),
        scores=_rounded(facts.scores), clip=_rounded(facts.named), doubts=_rounded(facts.doubts),
        names=None if facts.names is None else list(facts.names), missing=facts.missing, extra=facts.extra,
        corrected=entry.corrected, problems=dict(entry.problems), order=_rounded(entry.badness),
        layers={what: _address(what, content) for what, content in entry.layers.items()})


def _rounded(values: Any) -> dict[str, float]:
    return {name: round(value, 5) for name, value in values.items()}


def _address(what: str, content: str | bytes) -> str:
    if isinstance(content, str):
        return content
    return f'data:image/{"jpeg" if what == "photo" else "webp"};base64,{base64.b64encode(content).decode()}'


def _link(photo: Path | None, out: Path) -> str:
    """How the page finds a photo."""
    if photo is None:
        return ''
    try:
        path = os.path.relpath(photo, out).replace(os.sep, '/')
    except ValueError:  # on another drive
        return photo.absolute().as_uri()
    return quote(os.fsencode(path))


def _read(name: str) -> str:
    return (FILES / name).read_text(encoding='utf-8')


def _hash(text: str) -> str:
    """What the page's own policy knows its style or script by."""
    return 'sha256-' + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

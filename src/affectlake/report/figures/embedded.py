"""A figure as SVG inside the report's page: named, told about on hovering, and without what a page has already."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from io import StringIO
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from markupsafe import Markup

from affectlake.report.figures.canvas import Figure, Note, styled
from affectlake.report.figures.markup import number

_DECIMAL = re.compile(r"-?\d+\.\d+")
_REFERENCE = re.compile(r"#([\w.-]+)")
_SEE_THROUGH = re.compile(r"(?:^|;)opacity:")  # where marks overlap, they show it
_UNTURNED = re.compile(r"rotate\(-0 ")
_NUMERIC = ("d", "x", "y", "width", "height", "transform", "points")
_POINT = 4 / 3  # pixels of the page


def embedded(figure: Figure, name: str, *, focusable: bool = False) -> Markup:
    """Return a figure as an ``svg`` element of the page.

    Its text is the page's text. The style sheet finds the width at which it is as large as on paper as ``--natural``.

    Parameters
    ----------
    figure : Figure
    name : str
        Begins the identifiers inside it, which are unique on the page when it is.
    focusable : bool
        Whether the keyboard can reach it.
    """
    file = StringIO()
    engine = figure.get_layout_engine()
    if engine is not None:
        with styled():
            engine.execute(figure)
        figure.set_layout_engine("none")  # saving would lay it out again, in a draw of its own
    figure.savefig(file, format="svg", transparent=True, dpi=2 * 72)
    root = fromstring(file.getvalue())
    ids = {found: f"{name}-{at}" for at, found in enumerate(dict.fromkeys(_references(root)))}
    content = [part for child in root for part in _kept(child, ids, figure.notes)]
    box = root.attrib["viewBox"]
    natural = number(float(box.split()[2]) * _POINT)
    drawn = Markup("").join(Markup(tostring(part, encoding="unicode")) for part in content)
    return Markup(
        '<svg viewBox="{}" style="--natural:{}px" class="drawn" role="img" aria-label="{}"{}>{}</svg>'
    ).format(box, natural, figure.label, Markup(' tabindex="0"') if focusable else "", drawn)


def _references(root: Element) -> Iterator[str]:
    for element in root.iter():
        for key, value in element.attrib.items():
            if key.endswith("href") or key == "clip-path":
                yield from _REFERENCE.findall(value)


def _kept(element: Element, ids: Mapping[str, str], notes: Mapping[str, Note]) -> list[Element]:
    """Return an element as the page has it, or its children in its place where it says nothing itself."""
    tag = element.tag.rpartition("}")[2]
    if tag in ("metadata", "style", "title"):
        return []
    made = Element(tag, _attributes(element.attrib, ids))
    made.text = element.text if (element.text or "").strip() else None
    for child in element:
        made.extend(_kept(child, ids, notes))
    if note := notes.get(element.get("id", "")):
        _tell(made, note)
    if tag in ("g", "defs") and not len(made):
        return []
    if tag == "path" and made.get("style") == "fill:none":  # the background
        return []
    if tag == "g":
        _share_style(made)
        if not made.attrib:
            return list(made)
    return [made]


def _attributes(given: Mapping[str, str], ids: Mapping[str, str]) -> dict[str, str]:
    kept = {}
    for long, value in given.items():
        key = long.rpartition("}")[2]
        if key == "id":
            if value in ids:
                kept["id"] = ids[value]
        elif key == "style":
            rules = [rule.strip().replace(": ", ":") for rule in value.split(";")]
            if rest := ";".join(rule for rule in rules if rule and not rule.startswith("font-family")):
                kept["style"] = rest
        elif key == "transform" and _UNTURNED.match(value):
            continue
        elif key in _NUMERIC:
            kept[key] = _DECIMAL.sub(lambda found: number(float(found[0])), " ".join(value.split()))
        elif value.startswith("data:"):
            kept[key] = "".join(value.split())
        else:
            kept[key] = _REFERENCE.sub(lambda found: f"#{ids.get(found[1], found[1])}", value)
    return kept


def _tell(made: Element, note: Note) -> None:
    """Write a note into its element: attributes, and hints as titles, which a pointer makes visible."""
    made.attrib.update(note.own)
    marks = [one for one in _drawn(made) if one.tag == "use"] or list(_drawn(made))
    for mark, *values in zip(marks, *note.each.values(), strict=True) if note.each else ():
        mark.attrib.update({key: str(value) for key, value in zip(note.each, values, strict=True)})
    for mark, hint in zip(marks, note.hints, strict=True) if note.hints else ():
        SubElement(mark, "title").text = hint
    if note.hint:
        title = Element("title")
        title.text = note.hint
        made.insert(0, title)


def _drawn(made: Element) -> Iterator[Element]:
    for child in made:
        if child.tag in ("use", "path"):
            yield child
        elif child.tag == "g":
            yield from _drawn(child)


def _share_style(group: Element) -> None:
    """Write a style that all children have once."""
    styles = {child.get("style", "") for child in group}
    style = styles.pop() if len(styles) == 1 else ""
    if style and len(group) > 1 and "style" not in group.attrib and not _SEE_THROUGH.search(style):
        group.set("style", style)
        for child in group:
            del child.attrib["style"]

"""Figures as SVG elements of the report's page: with labels and tooltips, and without their own fonts and ids."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from typing import Any
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from markupsafe import Markup
from PIL import Image

from affectlake.report.figures.canvas import Figure, Note, styled
from affectlake.report.figures.markup import number

_CLEANED: tuple[tuple[re.Pattern[str], Any], ...] = (  # of attributes, in this order
    (re.compile(r"\s+"), " "),
    (re.compile(r"; font-family: [^;]*|^rotate\(-0 .*"), ""),
    (re.compile(r"-?\d+\.\d{3,}"), lambda found: number(float(found[0]))),
)
_REFERENCE = re.compile(r"(?<=#)[\w.-]+")
_HATCH = re.compile(r"(?<=url\(#)[\w.-]+")
_SEE_THROUGH = re.compile(r"(?:^|; )opacity:")  # the overlap of such marks is visible
_PNG = "data:image/png;base64,"
_POINT = 4 / 3  # pixels of the page
_COMMAND = re.compile(r" ?([A-Za-z]) ?")  # of a path; numbers beside a letter need no space


@dataclass
class SharedStyles:
    """What the drawings of one page share: each style is written once, as a class, and ids are short.

    Parameters
    ----------
    classes : dict of str to str
        Class of each style that a drawing has.
    n_drawings : int
        Number of drawings so far.
    """

    classes: dict[str, str] = field(default_factory=dict)
    n_drawings: int = 0

    def prefix(self) -> str:
        """Return the prefix of the ids in the next drawing."""
        self.n_drawings += 1
        return f"d{self.n_drawings}"

    def class_of(self, style: str) -> str:
        """Return the class of a style."""
        return self.classes.setdefault(style.replace("; ", ";").replace(": ", ":"), f"s{len(self.classes)}")

    @property
    def rules(self) -> Markup:
        """The CSS rules of all classes, which have priority over other rules for texts in drawings."""
        return Markup("\n".join(f".drawn .{name}{{{style}}}" for style, name in self.classes.items()))


def embedded(figure: Figure, styles: SharedStyles, *, focusable: bool = False) -> Markup:
    """Return a figure as an ``svg`` element of the page.

    Its text is in the page's font. The CSS variable ``--natural`` is the width at which it is as large as on paper.

    Parameters
    ----------
    figure : Figure
    styles : SharedStyles
        Styles and ids of the page; the styles of this figure are added.
    focusable : bool
        Whether it can be focused with the keyboard. Default False.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    file, prefix = StringIO(), styles.prefix()
    if figure.stamp is not None:  # the page has these words beside the title
        figure.stamp.set_in_layout(False)
        figure.stamp.set_visible(False)
    figure.lay_out()
    with styled():
        for patch in (figure.patch, *(ax.patch for ax in figure.axes)):
            patch.set_visible(False)
        for ax in figure.axes:
            for image in ax.images:
                if image.get_interpolation() in (None, "nearest"):
                    image.set_interpolation("none")  # its own cells, which browsers enlarge with sharp edges
        figure.set_dpi(2 * 72)  # of images in it
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})  # `savefig` would draw it twice
    root = fromstring(file.getvalue())
    referred = (
        value
        for one in root.iter()
        for key, value in one.attrib.items()
        if key.endswith(("href", "clip-path")) or (key == "style" and "url(#" in value)  # hatches are patterns
    )
    ids = {one: f"{prefix}-{at}" for at, one in enumerate(dict.fromkeys(_referred(referred)))}
    box = root.attrib["viewBox"]
    parts = [part for child in root for part in _kept(child, ids, figure.notes)]
    for one in (one for part in parts for one in part.iter() if "style" in one.attrib):
        known = [one.attrib.pop("class")] if "class" in one.attrib else []
        one.set("class", " ".join([*known, styles.class_of(one.attrib.pop("style"))]))
    drawn = (tostring(part, encoding="unicode").replace(" />", "/>") for part in parts)
    opened = Markup('<svg viewBox="{}" style="--natural:{}px" class="drawn" role="img" aria-label="{}"{}>')
    reached = Markup(' tabindex="0"') if focusable else ""
    natural = number(float(box.split()[2]) * _POINT)
    return opened.format(box, natural, figure.label, reached) + Markup("".join(drawn)) + Markup("</svg>")


def _referred(values: Iterable[str]) -> list[str]:
    """Return the ids to which attributes refer; a style also contains colours, which begin like references."""
    return [one for value in values for one in (_HATCH if "url(#" in value else _REFERENCE).findall(value)]


def _kept(element: Element, ids: Mapping[str, str], notes: Mapping[str, Note]) -> list[Element]:
    """Return an element as it is on the page, or its children if it has no attributes itself."""
    tag = element.tag.rpartition("}")[2]
    if tag in ("metadata", "style", "title"):
        return []
    found = _attributes(element, ids)
    made = Element(tag, found)
    made.text = element.text if tag == "text" else None
    for child in element:
        made.extend(_kept(child, ids, notes))
    if note := notes.get(element.get("id", "")):
        _annotate(made, note)
    if tag in ("g", "defs") and not len(made):
        return []
    if tag == "g":
        _share_style(made)
        return [made] if made.attrib else list(made)
    return [made]


def _attributes(element: Element, ids: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for long, text in element.attrib.items():
        key, value = long.rpartition("}")[2], text
        for pattern, by in _CLEANED:
            value = pattern.sub(by, value)
        if key == "id":
            value = ids.get(value, "")
        elif value.startswith(_PNG):
            value = _smaller(value.replace(" ", ""))
        elif key in ("href", "clip-path"):
            value = _REFERENCE.sub(lambda found: ids[found[0]], value.replace(" ", ""))
        elif key == "d":
            value = _COMMAND.sub(r"\1", value).strip()
        elif key == "style" and "url(#" in value:
            value = _HATCH.sub(lambda found: ids[found[0]], value)
        if value:
            found[key] = value
    return found


def _smaller(address: str) -> str:
    """Return the data URL of a PNG image as that of a WebP image without loss, if this is shorter."""
    file = BytesIO()
    with Image.open(BytesIO(b64decode(address.removeprefix(_PNG)))) as image:
        image.save(file, "WEBP", lossless=True, quality=100, method=6)
    return min("data:image/webp;base64," + b64encode(file.getvalue()).decode(), address, key=len)


def _annotate(made: Element, note: Note) -> None:
    """Write a note into its element: attributes, and tooltips as ``title`` elements."""
    made.attrib.update(note.own)
    marks = [one for one in _drawn(made) if one.tag == "use"] or list(_drawn(made))
    for key, values in note.each.items():
        for mark, value in zip(marks, values, strict=True):
            mark.set(key, str(value))
    for mark, hint in zip(marks, note.hints, strict=True) if note.hints else ():
        SubElement(mark, "title").text = hint
    if note.hint:
        made.insert(0, Element("title"))
        made[0].text = note.hint


def _drawn(made: Element) -> Iterator[Element]:
    for child in made:
        if child.tag in ("use", "path"):
            yield child
        elif child.tag == "g":
            yield from _drawn(child)


def _share_style(group: Element) -> None:
    """Move a style that all children have to the group."""
    styles = {child.get("style", "") for child in group}
    style = styles.pop() if len(styles) == 1 else ""
    if style and len(group) > 1 and "style" not in group.attrib and not _SEE_THROUGH.search(style):
        group.set("style", style)
        for child in group:
            del child.attrib["style"]

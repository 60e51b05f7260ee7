"""Templates of the pages, and the addresses of pages: those of the server, or of files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment

from affectlake.report.number_format import count, counted, decimal, percent, shortened
from affectlake.report.templating import template_environment
from affectlake.ui.judgment import KEY
from affectlake.ui.judgments import reason_in_words
from affectlake.ui.opened import OpenVersion

Link = Callable[..., str]
"""Returns the address of a page from its name and its parameters; empty if there is no such page."""

SECTIONS = (
    ("overview", "Overview"), ("judgments", "Judgments"), ("stimuli", "Stimuli"), ("similarity", "Similarity"),
    ("versions", "Versions"), ("stages", "Stages"), ("collections", "Collections"), ("sql", "SQL"),
)  # fmt: skip
"""Name and title of each page in the navigation."""


@cache
def environment() -> Environment:
    """Return the environment of the templates; all values are escaped."""
    return template_environment(
        "affectlake.ui",
        count=count,
        counted=counted,
        decimal=decimal,
        percent=percent,
        shortened=shortened,
        reason=reason_in_words,
        when=lambda iso: iso[:16].replace("T", " "),
        key=judgment_key,
    )


def judgment_key(row: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of the address of a judgment."""
    return {name: row["trial_set" if name == "set" else name] for name in KEY}


@cache
def static_files() -> dict[str, bytes]:
    """Return the files that every page uses, by name: the report's style, what is added to it, and the script."""
    own = files("affectlake.ui").joinpath("static")
    return {
        "report.css": files("affectlake.report").joinpath("templates/style.css").read_bytes(),
        "ui.css": own.joinpath("ui.css").read_bytes(),
        "ui.js": own.joinpath("ui.js").read_bytes(),
    }


def served(at: str) -> Link:
    """Return the addresses of the pages of a version on the server."""

    def link(page: str, **given: Any) -> str:
        named = {key: value for key, value in given.items() if value not in (None, "")}
        chosen = {"at": at} | named if at else named
        path = "/" if page == "overview" else f"/{page}"
        return f"{path}?{urlencode(chosen)}" if chosen and not page.startswith("static/") else path

    return link


def render(page: str, link: Link, opened: OpenVersion, **context: Any) -> str:
    """Return a page as HTML.

    Parameters
    ----------
    page : str
        Name of its template, without the ending.
    link : callable
        The addresses of other pages.
    opened : OpenVersion
        The version.
    **context
        What the template shows.
    """
    return environment().get_template(f"{page}.html.j2").render(
        {"link": link, "opened": opened, "version": opened.version, "sections": SECTIONS, "page": page,
         "is_synthetic": opened.record.text("sources.kind") == "synthetic", "study": opened.record.text("study"),
         "is_served": True, "every_version": [], "at": ""} | context
    )  # fmt: skip

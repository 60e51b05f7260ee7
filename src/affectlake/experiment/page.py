"""The page of an experiment as files: its shell, what it says, and what it loads."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from jinja2 import Environment, FileSystemLoader

from affectlake.errors import SourceError, UsageError, nearest
from affectlake.experiment.jspsych import jspsych_files

_HERE = Path(__file__).parent
LANGUAGES = tuple(sorted(path.stem for path in (_HERE / "texts").glob("*.yaml")))
"""Languages whose texts come with affectlake."""

_FIRST = ("title", "language_name", "stop", "loading_page")
"""Texts that the page has before it asks the server, besides what it says if it cannot begin."""


def render_page(
    texts: Mapping[str, Mapping[str, str]],
    panel: str = "",
    *,
    backend: Literal["server", "static"] = "server",
    jatos: bool = False,
    policy: str = "",
) -> str:
    """Return the HTML shell, in which the scripts show everything else.

    Parameters
    ----------
    texts : mapping
        What :func:`texts_of` returns. A participant may choose a language; the first is taken if the browser prefers
        one that is not there.
    panel : str
        Name of the parameter of the address that has a panel's id; empty: none.
    backend : {"server", "static"}
        Whether the page asks the server of affectlake or works from files alone.
    jatos : bool
        Whether it loads ``jatos.js``, which JATOS serves.
    policy : str
        The content security policy, for hosts that set none.
    """
    environment = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True)
    first = {
        language: {key: text for key, text in known.items() if key in _FIRST or key.startswith("problem_")}
        for language, known in texts.items()
    }
    return environment.get_template("page.html").render(
        language=next(iter(texts)),
        first=first,
        texts=json.dumps(first, ensure_ascii=False),
        panel=panel,
        backend=backend,
        jatos=jatos,
        policy=policy,
    )


def static_files() -> dict[str, Path]:
    """Return the scripts, the style and the icon by name."""
    return {path.name: path for path in sorted((_HERE / "static").iterdir()) if path.is_file()}


def page_files() -> dict[str, Path]:
    """Return every file that the page loads besides media, by its path relative to the page."""
    return {
        **{f"static/{name}": path for name, path in static_files().items()},
        **{f"jspsych/{name}": path for name, path in jspsych_files().items()},
    }


def texts_of(
    languages: Sequence[str], folder: Path | None = None, consent: Path | None = None
) -> dict[str, dict[str, str]]:
    """Return what the page says, by language and key.

    Parameters
    ----------
    languages : sequence of str
        Two-letter codes.
    folder : Path, optional
        A folder with files such as ``en.yaml`` that override wording, or give the texts of another language in full.
    consent : Path, optional
        The consent text, in a small part of Markdown: headings, lists, paragraphs, ``**bold**``, ``*emphasis*`` and
        links. For German, ``consent.de.md`` beside ``consent.md`` is read, if there is one.

    Raises
    ------
    UsageError
        If a language has no texts, or a key is unknown or missing.
    SourceError
        If a file cannot be read.
    """
    found = {}
    for language in languages:
        ours = _ours(language) if language in LANGUAGES else {}
        path = folder / f"{language}.yaml" if folder else None
        theirs = _read(path) if path is not None and path.exists() else {}
        found[language] = dict(ours) | theirs
        _check(language, found[language], path)
        if consent is not None:
            own = consent.with_name(f"{consent.stem}.{language}{consent.suffix}")
            found[language]["consent"] = _text(own if own.exists() else consent)
    return found


@cache
def _ours(language: str) -> Mapping[str, str]:
    return _read(_HERE / "texts" / f"{language}.yaml")


def _check(language: str, texts: Mapping[str, str], path: Path | None) -> None:
    english = _ours("en")
    unknown = sorted(texts.keys() - english.keys())
    if unknown:
        raise UsageError(
            f"{path} has the text {unknown[0]!r}, which the page does not use",
            found=nearest(unknown[0], english),
            allowed=", ".join(english),
        )
    missing = sorted(english.keys() - texts.keys())
    if missing:
        raise UsageError(
            f"{len(missing)} texts are missing for the language {language!r}",
            wanted=", ".join(missing),
            found=str(path) if path is not None and path.exists() else "no file of this language",
            allowed=f"without a file: {', '.join(LANGUAGES)}",
        )
    for key, text in texts.items():
        wrong = fields_of(text) - fields_of(english[key])
        if wrong:
            raise UsageError(
                f"the text {key!r} in {language!r} has a field that is not filled in",
                found=", ".join(f"{{{one}}}" for one in sorted(wrong)),
                allowed=", ".join(f"{{{one}}}" for one in sorted(fields_of(english[key]))) or "none",
            )


def fields_of(text: str) -> set[str]:
    """Return the names in braces that the page fills in."""
    try:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}
    except ValueError:
        return {text}


def _read(path: Path) -> dict[str, str]:
    text = _text(path)
    try:
        found = yaml.load(text, Loader=yaml.BaseLoader) or {}  # every scalar is a text: `agree: Yes`, too
    except yaml.YAMLError as error:
        raise SourceError(f"{path} is not YAML", found=str(error).splitlines()[0]) from error
    if not isinstance(found, dict) or not all(isinstance(one, str) for pair in found.items() for one in pair):
        raise SourceError(f"{path} is not a list of texts", wanted="lines such as `agree: I agree`")
    return {key: one.strip() for key, one in found.items()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read", found=str(error), todo="name another file") from error

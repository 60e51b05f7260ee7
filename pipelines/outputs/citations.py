"""Citations of a version for programs: BibTeX, and a ``CITATION.cff``. The text is in :mod:`affectlake.lake.cite`."""

from __future__ import annotations

import re
from collections.abc import Collection

import yaml

from affectlake.lake.store.versions import Version
from affectlake.pipelines.params.about import Described

KNOWN_LICENCES = (
    "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0", "CC-BY-NC-ND-4.0",
    "ODbL-1.0", "ODC-By-1.0", "PDDL-1.0", "MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "GPL-3.0-only",
    "GPL-3.0-or-later",
)  # fmt: skip
"""SPDX identifiers that are written where a format accepts nothing else; other licences are written as text."""

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


def bibtex(version: Version, about: Described) -> str:
    """Return a BibTeX entry of a version, with its commit and the code that made it."""
    creators = [_latex(one) for one in about.creators] or [f"{{{_latex(version.author or 'unknown')}}}"]
    fields = {
        "author": " and ".join(creators),
        "title": f"{{{_latex(about.title)}}}",
        "year": version.created[:4],
        "version": version.name,
        "note": _latex(
            f"Data set, commit {version.commit}, made with affectlake {version.code_version}"
            + (f". Licence: {about.licence}" if about.licence else "")
        ),
    }
    key = re.sub(r"[^a-z0-9]+", "-", about.title.lower()).strip("-")[:40].strip("-") or "affectlake"
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@misc{{{key}-{version.name},", *lines, "}"])


def cff(about: Described, left_out: Collection[str] = (), version: Version | None = None) -> str:
    """Return the text of a ``CITATION.cff`` (1.2.0) of a version or, without one, of all versions of a lake.

    Parameters
    ----------
    about : Described
        What the lake is, and who made it. If it has no creators, the author of the version is cited.
    left_out : collection of str
        Keys to leave out.
    version : Version, optional
        The version.
    """
    message = "If you use these data, please cite them."
    abstract = [about.description]
    of_version: dict[str, object] = {}
    if version is None:
        message = "If you use these data, please cite them with the version that you used: see `affectlake cite`."
    else:
        of_version = {"version": version.name, "commit": version.commit}
        of_version |= {"date-released": version.created[:10]} if version.created else {}
        abstract.append(f"Made with affectlake {version.code_version}.")
    if about.licence and about.licence not in KNOWN_LICENCES:
        abstract.append(f"Licence: {about.licence}.")
    content: dict[str, object] = {
        "cff-version": "1.2.0",
        "message": message,
        "type": "dataset",
        "title": about.title,
        "authors": [_person(one) for one in about.creators or ((version and version.author) or "unknown",)],
        **of_version,
        **({"license": about.licence} if about.licence in KNOWN_LICENCES else {}),
        **({"abstract": words} if (words := " ".join(filter(None, abstract))) else {}),
    }
    shown = {name: value for name, value in content.items() if name not in left_out}
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=100)


def _person(name: str) -> dict[str, str]:
    family, comma, given = (part.strip() for part in name.partition(","))
    return {"family-names": family, "given-names": given} if comma and given else {"name": name}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)

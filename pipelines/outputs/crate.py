"""RO-Crate 1.1 metadata of an archive: what it is, who made it, and each of its files.

https://w3id.org/ro/crate/1.1
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from affectlake.lake.store.versions import Version
from affectlake.pipelines.outputs.citations import KNOWN_LICENCES
from affectlake.pipelines.params.about import Described

FILE = "ro-crate-metadata.json"
_CONTEXT = "https://w3id.org/ro/crate/1.1"
_FORMATS = {
    ".parquet": "application/vnd.apache.parquet", ".md": "text/markdown", ".yaml": "application/yaml",
    ".json": "application/json", ".cff": "application/yaml", ".sql": "application/sql",
}  # fmt: skip


class Packed(NamedTuple):
    """A file of an archive: its path in it, size in bytes, SHA-256, and what it is, in words."""

    path: str
    n_bytes: int
    sha256: str
    what: str


def crate(version: Version, about: Described, files: Sequence[Packed]) -> str:
    """Return the text of ``ro-crate-metadata.json``.

    Parameters
    ----------
    version : Version
        The version.
    about : Described
        What its parameters state about it.
    files : sequence of Packed
        The other files of the archive.
    """
    creators = about.creators or ((version.author,) if version.author else ())
    people = [_person(f"#creator-{at}", name) for at, name in enumerate(creators, 1)]
    licence = _licence(about.licence)
    software = f"#affectlake-{version.code_version}"
    graph: list[dict[str, Any]] = [
        {
            "@id": FILE,
            "@type": "CreativeWork",
            "conformsTo": {"@id": _CONTEXT},
            "about": {"@id": "./"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"{about.title}, version {version.name}",
            "description": about.description or f"Tables of version {version.name} of an affectlake study.",
            "version": version.name,
            "identifier": version.commit,
            "datePublished": version.created,
            "license": {"@id": licence["@id"]},
            "author": [{"@id": one["@id"]} for one in people],
            "hasPart": [{"@id": file.path} for file in files],
        },
        *(_file(file) for file in files),
        *people,
        licence,
        {
            "@id": software,
            "@type": "SoftwareApplication",
            "name": "affectlake",
            "version": version.code_version,
            "url": "https://pypi.org/project/affectlake/",
        },
        {
            "@id": "#made",
            "@type": "CreateAction",
            "name": "Computation of the tables",
            "endTime": version.created,
            "instrument": {"@id": software},
            "result": {"@id": "./"},
        },
    ]
    text = {"@context": f"{_CONTEXT}/context", "@graph": graph}
    return json.dumps(text, indent=1, ensure_ascii=False) + "\n"


def _file(file: Packed) -> dict[str, Any]:
    ending = f".{file.path.rpartition('.')[2]}"
    return {
        "@id": file.path,
        "@type": "File",
        "name": file.path.rpartition("/")[2],
        "description": file.what,
        "contentSize": str(file.n_bytes),
        "encodingFormat": _FORMATS.get(ending, "text/plain"),
        "sha256": file.sha256,
    }


def _person(key: str, name: str) -> dict[str, Any]:
    family, comma, given = (part.strip() for part in name.partition(","))
    if not comma:
        return {"@id": key, "@type": "Person", "name": name}
    return {
        "@id": key,
        "@type": "Person",
        "name": f"{given} {family}".strip(),
        "familyName": family,
        "givenName": given,
    }


def _licence(text: str) -> dict[str, Any]:
    known = text in KNOWN_LICENCES
    return {
        "@id": f"https://spdx.org/licenses/{text}" if known else "#licence",
        "@type": "CreativeWork",
        "name": text or "not stated",
        "description": f"Licence {text} of the content." if text else "params.yaml states no licence.",
    }

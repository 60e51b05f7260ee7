"""What of a version may not be republished: the one definition that reports, archives, bundles and pushes use.

``shareable`` in ``params.yaml`` states whether the terms of the sources allow to republish their content. What
is computed from many stimuli, such as choices, embeddings, similarities, dimension labels and metrics, is not
restricted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import LakeError
from affectlake.lake.files import layout
from affectlake.lake.store.versions import Manifest, Version, list_versions
from affectlake.pipelines.params.record import StudyRecord, record_at, record_of

OWN_KINDS = ("synthetic", "tables")
"""Kinds of sources that may be republished unless ``params.yaml`` states otherwise; others may not."""

PARTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "shareable.stimuli": {"stimuli": ("category",)},
    "shareable.ratings": {"ratings": ("score",)},
    "shareable.captions": {
        "captions": ("caption",),
        # an answer may quote the captions that it is about, and an error the request
        "responses": ("answer", "thinking", "refusal", "logprobs", "error_words", "oddities"),
    },
    "shareable.media": {"frames": ("jpeg",)},
}
"""The columns with content of each part of the sources, by table."""

_WHOLE = ("captions", "ratings", "frames")


class Restricted(NamedTuple):
    """A table of a version with content that may not be republished.

    Attributes
    ----------
    table : str
        Name of the table.
    columns : tuple of str
        Its columns with such content.
    is_whole : bool
        Whether the table has nothing of use without them, so that copies leave it out.
    keys : tuple of str
        The settings that restrict it, such as ``shareable.captions``.
    """

    table: str
    columns: tuple[str, ...]
    is_whole: bool
    keys: tuple[str, ...]

    def __str__(self) -> str:
        what = self.table if self.is_whole else f"{self.table} ({', '.join(self.columns)})"
        return f"{what}: may not be republished ({', '.join(self.keys)})"


def restricted(lake: Path, version: Version) -> dict[str, Restricted]:
    """Return the restricted tables of a version by name.

    A part is restricted if the parameters of the version, those of the latest version or the current ``params.yaml``
    state that it is not shareable. If none of them states anything, sources of one's own (``tables``) and synthetic
    ones are shareable; the emotional videos, and sources of an unknown kind, are not.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    version : Version
        The version.
    """
    own = record_at(lake, version)
    records = [own, *(record_at(lake, one) for one in list_versions(lake)[-1:] if one != version), *_current(lake)]
    present = Manifest(lake, version.commit).tables()
    found: dict[str, Restricted] = {}
    for key, tables in PARTS.items():
        if _is_shareable(key, own, records):
            continue
        for table, columns in (*tables.items(), *_categories(key, own)):
            if table in present:
                keys = (*found[table].keys, key) if table in found else (key,)
                found[table] = Restricted(table, columns, table in _WHOLE, keys)
    return found


def refuse_restricted(lake: Path, versions: Sequence[Version]) -> None:
    """Raise :class:`LakeError` if any of the versions has tables that may not be republished.

    A version is sent as a whole, so that its tables cannot be left out of it.
    """
    found = {version.name: list(restricted(lake, version)) for version in versions}
    having = {name: tables for name, tables in found.items() if tables}
    if having:
        name, tables = next(iter(having.items()))
        more = f"; and {len(having) - 1} more versions" if len(having) > 1 else ""
        raise LakeError(
            "a public remote must not have content that may not be republished; nothing was sent",
            found=f"{name}: {', '.join(tables)}{more}",
            todo=f"deposit the other tables with `affectlake archive {name} FILE.zip`, push to a private remote "
            "without --public, or correct shareable in params.yaml",
        )


def _is_shareable(key: str, own: StudyRecord, records: list[StudyRecord]) -> bool:
    stated = [one for record in records for one in _stated(record, key)]
    return all(stated) if stated else own.text("sources.kind") in OWN_KINDS


def _stated(record: StudyRecord, key: str) -> Iterator[bool]:
    """Yield what ``params.yaml`` states about a part; anything but true or a section is false."""
    whole = record.at("shareable")
    value = record.at(key) if isinstance(whole, Mapping) else whole
    if value is not None:
        yield value is True


def _categories(key: str, record: StudyRecord) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the column of categories, if they are the highest ratings of each stimulus and `key` is that of ratings."""
    if key == "shareable.ratings" and not record.text("sources.stimuli.category_column"):
        yield "stimuli", ("category",)


def _current(lake: Path) -> Iterator[StudyRecord]:
    try:
        yield record_of((lake / layout.PARAMS).read_bytes())
    except OSError:
        return

"""``README.md`` at the root of a lake: what the lake is, for people who find the folder or the repository.

A generated block between two marks is replaced with each version that a run publishes; text outside it belongs to the
user and is kept. A README without the marks belongs to the user as a whole. The block does not have the number of the
latest version: copies of a lake publish independently, and would have a conflict in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from affectlake.lake.files import layout
from affectlake.lake.store.versions import Manifest
from affectlake.lake.tables.contracts import contracts
from affectlake.pipelines.params.about import described

BEGIN = "<!-- affectlake: this block is generated; write above or below it -->"
END = "<!-- affectlake: end of the generated block -->"


def lake_readme(lake: Path, raw: Mapping[str, Any], manifest: Manifest) -> bytes | None:
    """Return the README of a version of a lake; None if it must not be changed.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    raw : mapping
        Parsed content of the ``params.yaml`` of the version.
    manifest : Manifest
        The manifest of the version.
    """
    text = own_text(lake / layout.README)
    return None if text is None else _around(text or f"{BEGIN}{END}\n", _block(raw, list(manifest.tables())))


def own_text(path: Path) -> str | None:
    """Return the text of a file, empty if there is no file; None for a link, a folder, or bytes that are not UTF-8."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return None
    try:
        return path.read_bytes().decode() if path.exists() else ""
    except UnicodeDecodeError:
        return None


def first_readme(raw: Mapping[str, Any]) -> str:
    """Return the README of a lake without versions."""
    return f"{_block(raw, [])}\n"


def _around(text: str, block: str) -> bytes | None:
    """Return a text with the block in place of the one that it has; None for a text of the user."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        return None
    return f"{before}{block}{after}".encode()


def _block(raw: Mapping[str, Any], tables: Sequence[str]) -> str:
    about, known = described(raw), contracts()
    lines = [BEGIN, f"# {about.title}", ""]
    lines += [about.description, ""] if about.description else []
    lines += [
        "This folder is a lake of affectlake: tables in exact versions, each a Git commit with the tag `lake/vN`.",
        "",
        f"- Made by: {', '.join(about.creators) or 'see the authors of the versions'}",
        f"- Licence of the content: {about.licence or 'not stated'} (`about` in `params.yaml`)",
        "- Versions: `affectlake versions`, or `git tag --list 'lake/*'`",
        "- Cite a version: `affectlake cite v1`, with `--format bibtex` or `--format cff`",
        "",
        "## Open it",
        "",
        'With affectlake: `affectlake query "SELECT * FROM stimuli"`, or in Python '
        '`affectlake.open(".").table("stimuli")`. In a new clone, run `affectlake pull` first.',
        "",
        "Without it: `affectlake views` writes `lake.duckdb` for DBeaver, R and DuckDB, and `affectlake archive v1 "
        "FILE.zip` one file of Parquet tables for other readers. The tables of the folder are Parquet files as well: "
        '`pandas.read_parquet("storage/tables/stimuli")`, in R `arrow::open_dataset("storage/tables/stimuli")`.',
        "",
    ]
    if tables:
        lines += ["## Tables", "", "| table | one row is |", "|---|---|"]
        lines += [f"| `{name}` | {_grain(name, known)} |" for name in tables]
        lines.append("")
    return "\n".join([*lines, END])


def _grain(name: str, known: Mapping[str, Any]) -> str:
    return known[name].grain.removeprefix("one row per ") if name in known else ""

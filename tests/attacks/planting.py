"""Versions and contracts as another affectlake, or a hand, might have written them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from affectlake.lake import repository
from affectlake.lake.store.versions import Version, cached_object
from affectlake.lake.tables import contracts
from affectlake.lake.tables.contracts import Contract


def keep(lake: Path, content: bytes, suffix: str = "") -> str:
    """Put an object into the cache of `lake` and return its hash."""
    digest = hashlib.md5(content).hexdigest() + suffix
    target = cached_object(lake, digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.write_bytes(content)
    target.chmod(0o444)
    return digest


def plant(lake: Path, outputs: dict[str, list[pa.Table]]) -> Version:
    """Publish a version in which some outputs have exactly the given tables as parts."""
    lock = yaml.safe_load((lake / "dvc.lock").read_text())
    (stage,) = lock["stages"].values()
    for output, tables in outputs.items():
        listed = []
        for i, table in enumerate(tables):
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink)
            listed.append({"md5": keep(lake, sink.getvalue().to_pybytes()), "relpath": f"part-{i:05d}.parquet"})
        digest = keep(lake, json.dumps(listed, sort_keys=True).encode(), ".dir")
        stage["outs"] = [o for o in stage["outs"] if o["path"] != f"storage/tables/{output}"]
        stage["outs"].append({"path": f"storage/tables/{output}", "hash": "md5", "md5": digest, "nfiles": len(listed)})
    (lake / "dvc.lock").write_text(yaml.safe_dump(lock))
    version = repository.publish(lake)
    assert version is not None
    return version


Change = Callable[[Contract], Contract]


def all_contracts(change: Change) -> dict[str, Contract]:
    return {name: change(known) for name, known in contracts.contracts.__wrapped__().items()}


def raise_contracts(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Let every table's contract be what `change` makes of it, in its next version."""
    changed = all_contracts(lambda known: replace(change(known), version=known.version + 1))
    monkeypatch.setattr(contracts, "contracts", lambda: changed)


def with_thoughts(known: Contract) -> Contract:
    """Return a contract of answers with two more columns, one of them in the middle."""
    if known.name != "responses":
        return known
    at = [column.name for column in known.columns].index("answer") + 1
    new = replace(known.column("answer"), name="musings", nullable=True)
    size = replace(known.column("prompt_tokens"), name="n_thoughts", nullable=True)
    return replace(known, columns=(*known.columns[:at], new, *known.columns[at:], size))

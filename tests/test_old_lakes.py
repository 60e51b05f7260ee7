"""Lakes made by older code are read by today's: do not delete, this is the promise that versions stay readable.

Each ``tests/fixtures/lake_COMMIT.tar.xz`` is a small lake as the code of that commit left it, and
``lake_COMMIT.json`` what that code read in it. Neither is ever made anew: what fails here is to be mended in the code.
A table, command or column that is renamed later is renamed in the calls below, while the numbers stay. How a further
lake is made, when a release changes what lakes hold, is in ``tests/fixtures/README.md``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import click
import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from affectlake.cli.main import cli
from affectlake.lake.open import Lake, open_lake
from affectlake.lake.store.known_hashes import known_md5s
from affectlake.lake.store.versions import Manifest, resolve
from tests.fixtures.make_lake import QUERIES, digest

FIXTURES = Path(__file__).parent / "fixtures"
KEPT = {
    "lake_b629e22": (
        "a4fdfc7d6a34fa865639a86240ed8dce97f2914c49d71a9b7015f25c5723b91c",
        "38627c247caf4aa6c5d1560841c588067e997216110fa6f04efe23e6570903b2",
    )
}
"""The lakes, and the SHA-256 of the archive and of the account of each."""

LARGEST_BYTES = 1_000_000


class Old(NamedTuple):
    """An old lake, unpacked, and what the code that made it read in it."""

    root: Path
    account: dict[str, Any]

    @property
    def lake(self) -> Lake:
        """The lake as it is opened today."""
        return open_lake(self.root)

    @property
    def versions(self) -> list[dict[str, Any]]:
        """Its versions, oldest first."""
        found: list[dict[str, Any]] = self.account["versions"]
        return found


@pytest.fixture(scope="module", params=KEPT)
def old(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Old:
    """An old lake in a folder of its own; it is not changed but by what reading it remembers."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(FIXTURES / f"{request.param}.tar.xz") as archive:
        archive.extractall(folder, filter="tar")
    return Old(folder / "lake", json.loads((FIXTURES / f"{request.param}.json").read_text()))


def affectlake(*words: str | Path) -> str:
    """Run a command in this process; return what it prints on stdout."""
    done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False, standalone_mode=False)
    assert not isinstance(done.exception, click.ClickException), done.exception
    return done.stdout


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", KEPT)
def test_the_fixture_is_as_it_was_made(name: str) -> None:
    archive, account = ((FIXTURES / f"{name}.{ending}").read_bytes() for ending in ("tar.xz", "json"))
    assert (sha256(archive), sha256(account)) == KEPT[name], "an old lake is never made anew"
    assert len(archive) + len(account) < LARGEST_BYTES
    subject = {table for version in json.loads(account)["versions"] for table in version["tables"]}
    assert {"responses", "choices", "embeddings", "betas", "rsa_maps", "group_stats", "frames"} <= subject


def test_its_versions_are_listed(old: Old) -> None:
    kept = ("name", "commit", "created", "author")
    wanted = [{key: version[key] for key in kept} for version in old.versions]
    listed = json.loads(affectlake("versions", "--lake", old.root, "--json"))
    assert [{key: version[key] for key in kept} for version in reversed(listed)] == wanted
    assert [version.commit for version in old.lake.versions()] == [version["commit"] for version in wanted]


def test_every_table_of_every_version_has_the_rows_that_were_published(old: Old) -> None:
    read = set()
    for version in old.versions:
        digests = Manifest(old.root, version["commit"]).digests
        assert {str(output): digest for output, digest in digests.items()} == version["digests"]
        for name, table in version["tables"].items():
            if (name, table["sha256"]) not in read:  # most tables are the files of the version before
                rows = old.lake.table(name, at=version["name"]).collect()
                assert (rows.height, digest(rows.columns, rows.iter_rows())) == tuple(table.values()), (version, name)
                read.add((name, table["sha256"]))


def test_queries_of_every_version_give_the_same_answers(old: Old) -> None:
    asked = set()
    for version in old.versions:
        for sql, answer in zip(QUERIES, version["queries"], strict=True):
            found = old.lake.sql(sql, version["name"])
            assert digest(found.columns, found.fetchall()) == answer, (version["name"], sql)
        for name, table in version["tables"].items():
            if (name, table["sha256"]) not in asked:
                found = old.lake.sql(f"SELECT * FROM {name}", version["name"])
                assert digest(found.columns, found.fetchall()) == table["sha256"], (version["name"], name)
                asked.add((name, table["sha256"]))
    first, last = old.versions[0]["name"], old.versions[-1]["name"]
    sql = f"SELECT (SELECT count(*) FROM choices@{first}) AS a, (SELECT count(*) FROM choices) AS b"
    counts = json.loads(affectlake("query", sql, "--at", last, "--lake", old.root, "--format", "jsonl"))
    n_rows = [version["tables"]["choices"]["n_rows"] for version in (old.versions[0], old.versions[-1])]
    assert list(counts.values()) == n_rows


def test_versions_are_compared_row_by_row(old: Old) -> None:
    for pair in old.account["diffs"]:
        words = ("diff", pair["before"], pair["after"], "--lake", old.root, "--json")
        assert [list(one.values()) for one in json.loads(affectlake(*words))] == pair["outputs"]


def test_every_version_is_cited_with_its_hashes(old: Old) -> None:
    for version in old.versions:
        text = affectlake("cite", version["name"], "--lake", old.root)
        hashes = [value.removesuffix(".dir") for value in version["digests"].values()]
        assert [one for one in (version["commit"], version["params_sha256"], *hashes) if one not in text] == []


def test_versions_have_their_reports(old: Old, tmp_path: Path) -> None:
    for version in (old.versions[0], *old.versions[-2:]):  # those between differ from the first in one table
        page = tmp_path / f"{version['name']}.html"
        affectlake("report", "--at", version["name"], "--lake", old.root, "--output", page)
        text = page.read_text()
        assert version["commit"] in text
        assert [one for one in version["digests"].values() if one[:8] not in text] == []
        assert version["held_out"]
        for agent, accuracy in version["held_out"]:
            assert agent in text and f"{100 * accuracy:.2f}" in text, (version["name"], agent)


def test_positions_are_those_of_the_version(old: Old) -> None:
    versions = [version for version in old.versions if version["positions"]]
    assert versions
    for version in versions:
        found = json.loads(affectlake("positions", "--at", version["name"], "--lake", old.root, "--json"))
        assert found == version["positions"]


def test_brain_maps_have_the_same_values(old: Old, tmp_path: Path) -> None:
    for version in {str(one["maps"]): one for one in old.versions}.values():  # several versions have the same maps
        folder = tmp_path / version["name"]
        paths = affectlake("maps", folder, "--at", version["name"], "--lake", old.root, "--mask", "none").split()
        values = [np.asarray(nib.load(path).dataobj, np.float32) for path in paths]
        assert sorted(sha256(one.tobytes()) for one in values) == version["maps"]


def test_every_version_is_checked_out_with_the_bytes_that_were_published(old: Old, tmp_path: Path) -> None:
    root = shutil.copytree(old.root, tmp_path / "lake", symlinks=True)
    for version in old.versions:
        affectlake("checkout", version["name"], "--lake", root)
        assert sha256((root / "params.yaml").read_bytes()) == version["params_sha256"]
        manifest = Manifest(root, resolve(root, version["name"]).commit)
        assert {str(output): digest for output, digest in manifest.digests.items()} == version["digests"]
        for output in manifest.digests:
            files = manifest.files(output)
            places = [root / output.folder / file.path.name for file in files]
            assert known_md5s(root, places) == [file.md5 for file in files], output
    status = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    assert status.stdout == ""

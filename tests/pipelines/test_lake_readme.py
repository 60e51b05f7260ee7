"""The README at the root of a lake: generated between two marks, and never over a text of the user."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from affectlake.cli.main import cli
from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.restore import restore
from affectlake.lake.store.versions import Version, resolve
from affectlake.pipelines.outputs.lake_readme import BEGIN, END
from affectlake.pipelines.outputs.root_files import root_files
from tests.support.lakes import put

RAW = {"study": "tiny", "about": {"title": "Tiny data", "creators": ["Curie, Marie"], "licence": "CC0-1.0"}}


def git(lake: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(lake), *words], capture_output=True, text=True, check=True).stdout


def publish(lake: Path, n_stimuli: int = 12) -> Version | None:
    put(lake, n_stimuli)
    return repository.publish(lake, root_files=root_files(lake, RAW))


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    lake = tmp_path / "lake"
    repository.init(lake, "study: tiny\n")
    return lake


def test_init_writes_it(tmp_path: Path) -> None:
    made = CliRunner().invoke(cli, ["init", str(tmp_path / "lake"), "--study", "demo"])
    assert made.exit_code == 0, made.output
    text = (tmp_path / "lake/README.md").read_text(encoding="utf-8")
    assert text.startswith(BEGIN) and text.endswith(f"{END}\n")
    assert "# affectlake study demo" in text and "affectlake versions" in text


def test_a_version_has_it_and_leaves_the_folder_clean(lake: Path) -> None:
    assert publish(lake) is not None
    text = (lake / "README.md").read_text(encoding="utf-8")
    for words in ("# Tiny data", "Curie, Marie", "CC0-1.0", "| `triplets` |", "affectlake cite", "lake.duckdb"):
        assert words in text
    assert git(lake, "show", "lake/v1:README.md") == text
    assert git(lake, "status", "--porcelain") == ""


def test_text_outside_the_block_is_kept_and_is_no_version_of_its_own(lake: Path) -> None:
    publish(lake)
    path = lake / "README.md"
    path.write_text(f"# Mine\r\n\n{path.read_text(encoding='utf-8')}\nNotes: ünïcode\n", encoding="utf-8", newline="")
    assert publish(lake) is None
    assert publish(lake, 15) is not None
    content = path.read_bytes().decode()
    assert content.startswith("# Mine\r\n\n" + BEGIN) and content.endswith(f"{END}\n\nNotes: ünïcode\n")
    assert git(lake, "status", "--porcelain") == ""


def test_an_edit_in_the_block_is_replaced_with_the_next_version(lake: Path) -> None:
    publish(lake)
    path = lake / "README.md"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("# Tiny data", "# Edited"), encoding="utf-8")
    publish(lake, 15)
    assert path.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("own", ["# My project\n", f"{BEGIN}\nno end\n", f"{BEGIN}{END}{BEGIN}{END}", "\udcff"])
def test_a_readme_of_the_user_is_left_alone(lake: Path, own: str) -> None:
    path = lake / "README.md"
    path.write_bytes(own.encode(errors="surrogateescape"))
    before = path.read_bytes()
    assert publish(lake) is not None
    assert publish(lake, 15) is not None
    assert path.read_bytes() == before
    assert "README.md" not in git(lake, "ls-tree", "--name-only", "HEAD").split()


def test_a_link_or_a_folder_in_its_place_is_left_alone(lake: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.md"
    other.write_text("theirs")
    (lake / "README.md").symlink_to(other)
    assert publish(lake) is not None
    assert other.read_text() == "theirs" and (lake / "README.md").is_symlink()


def test_checkout_and_restore_do_not_touch_it(lake: Path) -> None:
    publish(lake)
    publish(lake, 15)
    path = lake / "README.md"
    path.write_text(path.read_text(encoding="utf-8") + "mine\n", encoding="utf-8")
    before = path.read_bytes()
    checkout(lake, resolve(lake, "v1"))
    assert path.read_bytes() == before
    restore(lake, lambda _line: None)
    assert path.read_bytes() == before


def test_lakes_of_earlier_releases_get_it_with_their_next_version(lake: Path) -> None:
    put(lake)
    repository.publish(lake)
    assert not (lake / "README.md").exists()
    assert publish(lake) is None  # an upgrade alone makes no version
    assert not (lake / "README.md").exists()
    assert publish(lake, 15) is not None
    assert (lake / "README.md").exists()

"""``CITATION.cff`` at the root of a lake: whom `about` names, current with each version, and never over a user's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from affectlake.cli.main import cli
from affectlake.lake import repository
from affectlake.lake.store.versions import Version
from affectlake.pipelines.outputs.root_files import root_files
from tests.support.lakes import put

CURIE: dict[str, Any] = {
    "title": "Tiny data", "creators": ["Curie, Marie", "The Consortium"], "licence": "CC-BY-4.0", "description": "Few.",
}  # fmt: skip
TEXT = {"type": "string", "minLength": 1}
PERSON = {"family-names": TEXT, "given-names": TEXT, "orcid": TEXT}
SCHEMA = {
    "type": "object",
    "required": ["authors", "cff-version", "message", "title"],
    "additionalProperties": False,
    "properties": {
        "cff-version": {"const": "1.2.0"}, "message": TEXT, "type": {"enum": ["software", "dataset"]}, "title": TEXT,
        "authors": {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"anyOf": [
            {"type": "object", "additionalProperties": False, "properties": PERSON},
            {"type": "object", "additionalProperties": False, "properties": {"name": TEXT}, "required": ["name"]},
        ]}},
        "license": {"enum": ["CC-BY-4.0", "CC0-1.0"]}, "abstract": TEXT, "doi": {"pattern": "^10\\.\\d{4,9}/[^\\s]+$"},
    },
}  # fmt: skip
"""What CFF 1.2.0 wants of the keys that are written here, and of those that these tests add."""


def git(lake: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(lake), *words], capture_output=True, text=True, check=True).stdout


def publish(lake: Path, n_stimuli: int = 12, **about: Any) -> Version | None:
    put(lake, n_stimuli)
    return repository.publish(lake, root_files=root_files(lake, {"study": "tiny", "about": about}))


def valid(text: str) -> dict[str, Any]:
    """Return a citation, which must be valid and have no key twice."""
    found = yaml.safe_load(text)
    jsonschema.validate(found, SCHEMA)
    keys = [line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()]
    assert len(keys) == len(set(keys))
    return dict(found)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    lake = tmp_path / "lake"
    repository.init(lake, "study: tiny\n")
    return lake


def test_init_writes_it_if_somebody_is_to_be_cited(tmp_path: Path) -> None:
    def init(folder: str, *settings: str) -> Path:
        words = [word for one in settings for word in ("--set", one)]
        made = CliRunner().invoke(cli, ["init", str(tmp_path / folder), "--study", "demo", *words])
        assert made.exit_code == 0, made.output
        return tmp_path / folder / "CITATION.cff"

    assert not init("unstated").exists()
    assert not init("no-creators", "about={title: Tiny data}").exists()
    found = valid(init("stated", 'about={creators: ["Curie, Marie"]}').read_text(encoding="utf-8"))
    assert found["title"] == "affectlake study demo"
    assert found["authors"] == [{"family-names": "Curie", "given-names": "Marie"}]


def test_a_version_and_its_names_have_it_at_the_root(lake: Path) -> None:
    assert publish(lake, **CURIE) is not None
    text = (lake / "CITATION.cff").read_text(encoding="utf-8")
    found = valid(text)
    assert (found["title"], found["license"], found["abstract"], found["type"]) == (
        "Tiny data", "CC-BY-4.0", "Few.", "dataset"
    )  # fmt: skip
    assert found["authors"][1] == {"name": "The Consortium"} and "affectlake cite" in found["message"]
    named = CliRunner().invoke(cli, ["tag", "submitted", "v1", "--lake", str(lake)])
    assert named.exit_code == 0, named.output
    (tag,) = [one for one in git(lake, "tag", "--list").split() if "submitted" in one]
    assert git(lake, "show", f"{tag}:CITATION.cff") == git(lake, "show", "HEAD:CITATION.cff") == text
    assert git(lake, "status", "--porcelain") == ""


def test_it_is_current_with_the_next_version_and_makes_none_of_its_own(lake: Path) -> None:
    publish(lake, **CURIE)
    assert publish(lake, **CURIE | {"title": "Other"}) is None
    assert publish(lake, 15, **CURIE | {"title": "Other", "licence": "of our own"}) is not None
    found = valid(git(lake, "show", "HEAD:CITATION.cff"))
    assert found["title"] == "Other" and "license" not in found and found["abstract"] == "Few. Licence: of our own."
    assert publish(lake, 18) is not None  # nobody is to be cited any more
    assert not (lake / "CITATION.cff").exists()
    assert "CITATION.cff" not in git(lake, "ls-tree", "--name-only", "HEAD").split()
    assert git(lake, "status", "--porcelain") == ""


def test_what_a_user_adds_is_kept_and_takes_the_place_of_generated_keys(lake: Path) -> None:
    publish(lake, **CURIE)
    path = lake / "CITATION.cff"
    path.write_text(
        f"# mine\n{path.read_text(encoding='utf-8')}doi: 10.5281/zenodo.1\ntitle: Ünser\n", encoding="utf-8"
    )
    assert publish(lake, 15, **CURIE | {"licence": "CC0-1.0"}) is not None
    text = path.read_text(encoding="utf-8")
    found = valid(text)
    assert (found["doi"], found["title"], found["license"]) == ("10.5281/zenodo.1", "Ünser", "CC0-1.0")
    assert text.startswith("# mine\n") and git(lake, "show", "HEAD:CITATION.cff") == text
    assert publish(lake, 18) is not None
    assert path.read_text(encoding="utf-8") == "# mine\ndoi: 10.5281/zenodo.1\ntitle: Ünser\n"


def test_an_edited_block_and_a_file_of_the_user_are_left_alone(lake: Path) -> None:
    publish(lake, **CURIE)
    path = lake / "CITATION.cff"
    edited = path.read_text(encoding="utf-8").replace("Marie", "Marie Skłodowska")
    for own in (edited.encode(), edited.encode() * 2, b"cff-version: 1.2.0\ntitle: mine\n", b"\xff\xfe"):
        path.write_bytes(own)
        n = len(own)
        assert publish(lake, 12 + n % 40 + 1, **CURIE | {"title": f"Title {n}"}) is not None
        assert path.read_bytes() == own
    assert valid(git(lake, "show", "HEAD:CITATION.cff"))["title"] == "Tiny data"


def test_a_link_in_its_place_is_left_alone(lake: Path, tmp_path: Path) -> None:
    (tmp_path / "other.cff").write_text("theirs")
    (lake / "CITATION.cff").symlink_to(tmp_path / "other.cff")
    assert publish(lake, **CURIE) is not None
    assert (lake / "CITATION.cff").is_symlink() and (tmp_path / "other.cff").read_text() == "theirs"


def test_a_lake_whose_first_version_names_nobody_after_all(lake: Path) -> None:
    from affectlake.pipelines.outputs.root_files import write_first_files

    write_first_files(lake, {"about": CURIE})
    assert (lake / "CITATION.cff").exists()
    assert publish(lake) is not None
    assert not (lake / "CITATION.cff").exists() and git(lake, "status", "--porcelain") == ""


def test_lakes_of_earlier_releases_get_it_with_their_next_version(lake: Path) -> None:
    put(lake)
    repository.publish(lake)
    assert publish(lake, **CURIE) is None  # an upgrade alone makes no version
    assert not (lake / "CITATION.cff").exists()
    assert publish(lake, 15, **CURIE) is not None
    assert (lake / "CITATION.cff").exists()

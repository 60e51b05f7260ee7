"""Two clones of one small lake whose agents' answers are rows made up here; what each has published, as plain sets."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import polars as pl
import yaml

from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.joining import join as joining
from affectlake.lake.joining.join import Joined, MergedParams, Sides
from affectlake.lake.recovery import recover
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.store.versions import Manifest, list_versions
from affectlake.lake.tables import appending, factory, writing
from affectlake.lake.transfer import push

Row = tuple[bytes, str | None, str | None]
"""An answer as a test thinks of it: key, text, and kind of failure."""

_ONE = factory.tiny_lake(4)["responses"].head(1)


def git(root: Path, *arguments: str | Path, ok: bool = True) -> str:
    done = subprocess.run(["git", *map(str, arguments)], cwd=root, check=False, capture_output=True, text=True)
    assert done.returncode == 0 or not ok, done.stderr
    return done.stdout.strip()


def quiet(_line: str) -> None:
    """Say nothing."""


def make(lake: Path) -> Path:
    """Make a lake with one table that a step makes, and answers of one agent, in two versions."""
    repository.init(lake, "study: tiny\n")
    git(lake, "config", "user.email", "somebody@localhost")
    git(lake, "config", "user.name", "somebody")
    config = lake / ".dvc/config"
    config.write_text(config.read_text().replace("../storage/remote", "../../files"))  # for clones beside it too
    outs = [{f"{layout.TABLES}/stimuli": {"persist": True}}]
    (lake / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"made": {"cmd": "true", "outs": outs}}}))
    build(lake, 5)
    add(lake, "tiny", row(0), row(1, failed=True))
    return lake


def build(lake: Path, n_stimuli: int) -> None:
    """Make the table that a step makes, and publish it."""
    recover(lake, quiet)
    writing.write_outputs(lake, "made", {Output("stimuli"): factory.tiny_lake(n_stimuli)["stimuli"]}, {})
    record_done(lake, "made")
    repository.publish(lake)


def clone(lake: Path, target: Path, *options: str) -> Path:
    """Clone a lake with Git, and bring its tables with plain DVC's cache, as a second person does from a folder."""
    git(lake.parent, "clone", "--quiet", *options, lake, target)
    git(target, "config", "user.email", f"{target.name}@localhost")
    git(target, "config", "user.name", target.name)
    if (lake / ".dvc/cache").is_dir():
        subprocess.run(["cp", "-r", lake / ".dvc/cache", target / ".dvc/cache"], check=True)
    recover(target, quiet)
    return target


def share(ours: Path, theirs: Path) -> None:
    """Give both a Git remote and a DVC remote, and announce the versions that they have."""
    folder = ours.parent
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", folder / "origin.git")
    for lake in (ours, theirs):
        git(lake, "remote", "remove", "origin", ok=False)
        git(lake, "remote", "add", "origin", folder / "origin.git")
    push(ours, list_versions(ours))


def row(n: int, text: str = "Video 1", *, failed: bool = False) -> Row:
    """Return an answer to question `n`, or a failure of it."""
    key = hashlib.sha256(str(n).encode()).digest()
    return (key, None, "timed_out") if failed else (key, text, None)


def add(lake: Path, agent: str, *rows: Row, publish: bool = True) -> None:
    """Add answers of an agent as one part."""
    recover(lake, quiet)
    output = Output("responses", agent)
    frame = pl.concat(
        _ONE.with_columns(
            pl.lit(agent).alias("agent"),
            shard=pl.lit(appending.next_part(lake, output), dtype=pl.Int32),
            request_key=pl.lit(key),
            answer=pl.lit(text, dtype=pl.String),
            error_kind=pl.lit(kind, dtype=pl.String),
            error_words=pl.lit("no answer" if kind else None, dtype=pl.String),
        )
        for key, text, kind in rows
    )
    appending.append(lake, output, frame, {})
    if publish:
        repository.publish(lake)


def propose(lake: Path, agent: str, n: int) -> None:
    """Add a round of `n` proposals and publish it."""
    recover(lake, quiet)
    output = Output("proposals", agent)
    parts = sorted((lake / output.folder).glob("*.parquet"))
    number = int(pl.read_parquet(parts)["round"].max()) + 1 if parts else 0  # type: ignore[arg-type]
    one = factory.tiny_lake(4)["proposals"].head(1)
    frame = pl.concat(
        one.with_columns(
            pl.lit(agent).alias("agent"), round=pl.lit(number, dtype=pl.Int32), k=pl.lit(k, dtype=pl.Int32)
        )
        for k in range(2, 2 + n)
    )
    appending.append(lake, output, frame, {})
    repository.publish(lake)


def merged_params(sides: Sides) -> MergedParams:
    """Keep what the lake has for parameters."""
    return MergedParams(sides.ours if b"<<<<" in sides.folder else sides.folder, [])


def join(lake: Path, source: Path | str = "") -> Joined:
    """Join as the command does."""
    with repository.writing(lake, "join"):
        return joining.join(lake, str(source), "", merged_params, quiet)


def rows(lake: Path, commit: str = "") -> dict[str, list[Row]]:
    """Return the answers of every agent at a commit, or in the folder, sorted; from the objects in the cache."""
    manifest = Manifest(lake, commit)
    found = {}
    for output in manifest.collected:
        if output.table == "responses":
            frame = pl.concat([pl.read_parquet(file.cached) for file in manifest.files(output)], how="diagonal")
            assert frame["shard"].to_list() == sorted(frame["shard"].to_list())
            found[str(output)] = sorted(frame.select("request_key", "answer", "error_kind").iter_rows(), key=repr)
    return found


def in_folder(lake: Path) -> dict[str, list[Row]]:
    """Return the answers of every agent in the folder's tables."""
    found: dict[str, list[Row]] = {}
    for folder in sorted((lake / layout.TABLES / "responses").iterdir()):
        frame = pl.concat([pl.read_parquet(part) for part in sorted(folder.glob("*.parquet"))], how="diagonal")
        found[f"responses/{folder.name}"] = sorted(
            frame.select("request_key", "answer", "error_kind").iter_rows(), key=repr
        )
    return found


def contents(lake: Path) -> dict[str, dict[str, str]]:
    """Return, by commit, the hash of each file of every version, read from the cache."""
    found = {}
    for version in list_versions(lake):
        manifest = Manifest(lake, version.commit)
        files = [file for output in manifest.digests for file in manifest.files(output)]
        hashes = {str(file.path): hashlib.md5(file.cached.read_bytes()).hexdigest() for file in files}
        assert hashes == {str(file.path): file.md5 for file in files}
        found[version.commit] = hashes
    return found

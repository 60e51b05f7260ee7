"""The command that rebuilds a version; :mod:`affectlake.pipelines.engine.rebuilding` implements it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from affectlake.cli import completion
from affectlake.cli.options import JSON, LAKE
from affectlake.errors import LakeError, VersionError
from affectlake.process.environment import compute_on_one_thread
from affectlake.process.terminal import log

if TYPE_CHECKING:
    from affectlake.pipelines.engine.rebuilding import Rebuilt


@click.command()
@click.argument("version", default="latest", shell_complete=completion.versions)
@LAKE
@JSON
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="A new or empty folder that keeps the rebuilt tables; by default, they are removed.",
)
def verify(version: str, lake: Path, as_json: bool, into: Path | None) -> None:
    """Rebuild VERSION beside the lake, and compare every table byte for byte with the published one."""
    compute_on_one_thread()
    from affectlake.lake.store.root import find
    from affectlake.lake.store.versions import resolve
    from affectlake.pipelines.engine.rebuilding import rebuild

    root = find(lake)
    wanted = resolve(root, version)
    found: list[Rebuilt] = []
    with _folder(into) as aside:
        for one in rebuild(root, wanted, aside, log):
            found.append(one)
            if not as_json:
                click.echo(f"{one.output}: {one.state}")
                for reason in one.reasons:
                    click.echo(f"    {reason}")
    n_same = sum(one.state == "same" for one in found)
    if as_json:
        click.echo(json.dumps([one._asdict() | {"output": str(one.output)} for one in found], indent=2))
    else:
        click.echo(f"{n_same} of {len(found)} tables, byte for byte")
    if n_same < len(found):
        states = [f"{sum(one.state == state for one in found)} {state}" for state in ("differs", "not rebuilt")]
        raise VersionError(
            f"{wanted.name} is not reproduced",
            found=f"of {len(found)} tables: {n_same} same, {states[0]}, {states[1]}",
            todo="the reasons are listed above"
            if into
            else "the reasons are listed above; --into DIR keeps the tables",
        )


@contextmanager
def _folder(into: Path | None) -> Iterator[Path]:
    """Yield the folder for rebuilt tables: the given one, or one that is removed afterwards."""
    if into is None:
        with tempfile.TemporaryDirectory(prefix="affectlake-verify-") as name:
            yield Path(name)
        return
    if into.exists() and any(into.iterdir()):
        raise LakeError(f"{into} is not empty", todo="name a new or empty folder")
    into.mkdir(parents=True, exist_ok=True)
    yield into.resolve()


COMMANDS = (verify,)

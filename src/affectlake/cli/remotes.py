"""The commands for the remotes through which a lake is shared, implemented in :mod:`affectlake.lake.sharing`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from affectlake.cli.options import JSON, LAKE
from affectlake.process.terminal import log
from affectlake.secrets import hide

if TYPE_CHECKING:
    from affectlake.lake.sharing import Listed

_OWN = (
    click.option("--user", default="", metavar="NAME", help="Your account on the server; on this machine only."),
    click.option(
        "--keyfile", default="", metavar="FILE", help="Your private key, if ssh does not know it; on this machine only."
    ),
    click.option("--ask-password", is_flag=True, help="Ask for a password each time; on this machine only."),
    click.option("--profile", default="", metavar="NAME", help="Your AWS profile; on this machine only."),
)


def _own_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OWN):
        command = option(command)
    return command


@click.group()
def remote() -> None:
    """Manage the remotes that keep the files of versions: a folder, SSH, S3, and others that DVC knows."""


@remote.command("add")
@click.argument("name")
@click.argument("url")
@LAKE
@click.option("--default", is_flag=True, help="Make it the default of `push` and `pull`, for everybody.")
@click.option("--endpoint-url", default="", metavar="URL", help="The server of an S3-compatible store that is not AWS.")
@click.option("--region", default="", metavar="NAME", help="The region of the bucket.")
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="The port of the SSH server.")
@_own_options
def add(
    name: str, url: str, lake: Path, default: bool, endpoint_url: str, region: str, port: int | None,
    user: str, keyfile: str, ask_password: bool, profile: str,
) -> None:  # fmt: skip
    """Add the remote NAME at URL, such as s3://BUCKET/PATH, ssh://HOST/FOLDER or a folder, and commit .dvc/config.

    Keys and what else is your own stay on this machine. Adding a remote again sets further options of it.
    """
    from affectlake.lake import repository
    from affectlake.lake.sharing import add_remote, list_remotes

    root = repository.find(lake)
    options = {"endpointurl": endpoint_url, "region": region, "port": str(port or "")}
    options |= _own(user, keyfile, ask_password, profile)
    with repository.writing(root, "affectlake remote add", wait_s=math.inf, say=log):
        done = add_remote(root, name, url, options, default=default)
    end = (
        "committed, `affectlake push` sends it with the versions"
        if done.committed
        else "the first version will have it"
        if done.waits
        else "the lake has it already"
    )
    log(f"the remote {done.name} is {hide(done.url)}: {end}")
    if done.own:
        log(f"on this machine only: {', '.join(done.own)}; others use `affectlake remote set {done.name}`")
    now = next((one.name for one in list_remotes(root) if one.is_default), "")
    if now != done.name:
        log(f"{now or 'no remote'} stays the default; --default makes {done.name} the default")


@remote.command("set")
@click.argument("name")
@LAKE
@_own_options
def set_options(name: str, lake: Path, user: str, keyfile: str, ask_password: bool, profile: str) -> None:
    """Set your account, key or profile for the remote NAME, on this machine only; nothing is committed."""
    from affectlake.lake import repository
    from affectlake.lake.sharing import set_own

    root = repository.find(lake)
    with repository.writing(root, "affectlake remote set", wait_s=math.inf, say=log):
        done = set_own(root, name, _own(user, keyfile, ask_password, profile))
    log(f"{name}: {', '.join(done)} set on this machine only")


@remote.command("list")
@LAKE
@JSON
def list_all(lake: Path, as_json: bool) -> None:
    """List the remotes: name, URL, which is the default, and whether a clone has them."""
    from affectlake.lake import repository
    from affectlake.lake.sharing import list_remotes, settings_left

    root = repository.find(lake)
    found = list_remotes(root)
    if as_json:
        click.echo(json.dumps([{**one._asdict(), "url": hide(one.url)} for one in found], indent=2))
        return
    for one in found:
        click.echo(_line(one))
    if left := settings_left(root):
        log(left)
    if not found:
        log("there is no remote: affectlake remote add NAME URL --default")


def _line(one: Listed) -> str:
    where = ", ".join(f"{key} {hide(value)}" for key, value in one.settings.items())
    places = {"lake": "not committed", "machine": "on this machine only", "user": "in your settings only"}
    state = "committed" if one.is_committed else places.get(one.place, "in the settings of this system only")
    marks = ["default"] if one.is_default else []
    marks += [state, *([f"your own: {', '.join(one.own)}"] if one.own else [])]
    return f"{one.name}  {hide(one.url) or 'no URL'}{f'  {where}' if where else ''}  [{'; '.join(marks)}]"


@remote.command("remove")
@click.argument("name")
@LAKE
def remove(name: str, lake: Path) -> None:
    """Remove the remote NAME from the lake's settings and commit that. Its files stay where they are."""
    from affectlake.lake import repository
    from affectlake.lake.sharing import remove_remote

    root = repository.find(lake)
    with repository.writing(root, "affectlake remote remove", wait_s=math.inf, say=log):
        committed = remove_remote(root, name)
    log(f"{name.lower()} is no longer a remote{': committed' if committed else ''}")


def _own(user: str, keyfile: str, ask_password: bool, profile: str) -> dict[str, str]:
    asked = "true" if ask_password else ""
    return {"user": user, "keyfile": keyfile, "ask_password": asked, "profile": profile}


COMMANDS: tuple[click.Command, ...] = (remote,)

"""The command that forgets a participant, implemented in :mod:`affectlake.pipelines.collection.forgetting`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from affectlake.cli import completion
from affectlake.cli.options import LAKE
from affectlake.process.terminal import log

if TYPE_CHECKING:
    from affectlake.lake.remains import Away, Remains

_SHOWN = 20


@click.command()
@click.argument("agent", shell_complete=completion.agents)
@click.argument("participant", required=False)
@LAKE
@click.option("--withdrawn", is_flag=True, help="All participants of an experiment who withdrew their consent.")
@click.option("--purge", is_flag=True, help="Also remove this machine's files that hold rows in older versions.")
@click.option("--allow-again", is_flag=True, help="Undo: accept rows of PARTICIPANT again. Removed rows do not return.")
def forget(agent: str, participant: str | None, lake: Path, withdrawn: bool, purge: bool, allow_again: bool) -> None:
    """Remove the rows of PARTICIPANT from the answers of AGENT, and refuse them from now on.

    What still holds such rows is listed, with commands that remove it.
    """
    from affectlake.errors import UsageError
    from affectlake.lake import repository
    from affectlake.pipelines.collection import forgetting
    from affectlake.pipelines.experiment.forgetting import withdrawn_participants

    root = repository.find(lake)
    if (participant is None) != withdrawn:
        raise UsageError(
            "whom to forget is not clear",
            wanted="one of PARTICIPANT and --withdrawn",
            found="both" if withdrawn else "none",
        )
    if allow_again:
        if purge or participant is None:
            other = "--withdrawn" if participant is None else "--purge"
            raise UsageError(f"{other} and --allow-again contradict each other", todo="leave one of them out")
        version = forgetting.allow_again(root, agent, participant, log)
        click.echo(f"rows of this participant are accepted again{f' from {version.name} on' if version else ''}")
        return
    everyone = withdrawn_participants(root, agent) if participant is None else [participant]
    for one in everyone:
        _forget_one(root, agent, one, purge=purge)
    if participant is None:
        click.echo(f"{len(everyone):,} participants who withdrew are forgotten")


def _forget_one(root: Path, agent: str, participant: str, *, purge: bool) -> None:
    from affectlake.lake.remains import find_remains
    from affectlake.pipelines.collection import forgetting
    from affectlake.pipelines.experiment.forgetting import forget_session

    in_session = forget_session(root, agent, participant)
    if in_session:
        click.echo("the session was deleted from the file of the experiment's server")
    done = forgetting.forget(root, agent, participant, log, is_known=in_session)
    for output, n in done.n_rows.items():
        click.echo(f"removed from {output}: {n:,} {'row' if n == 1 else 'rows'}")
    if done.version:
        click.echo(f"published {done.version.name}; `affectlake run` makes the other tables without them")
    else:
        click.echo("the collected tables have no rows of this participant")
    if purge:
        remains, n_removed = forgetting.purge_rows(root, agent, participant, log)
        click.echo(f"purged: {n_removed:,} files were removed; older versions that had them cannot be checked out")
    else:
        remains = find_remains(root, agent, participant)
    click.echo("\n".join(_described(remains, f"{agent} PARTICIPANT")))


def _described(found: Remains, who: str) -> list[str]:
    """Return lines about what holds rows of the participant, and how to remove it. The id is not repeated."""
    lines = [f"present, until the next `affectlake run`: {', '.join(found.current)}"] if found.current else []
    if found.objects:
        versions = list(dict.fromkeys(name for one in found.objects for name in one.versions))
        lines.append(f"cache: {len(found.objects):,} files, of {', '.join(versions) or 'no version'}")
        lines += [f"  {path}" for path in dict.fromkeys(one.path or one.md5 for one in found.objects)][:_SHOWN]
        lines.append(f"  to do: `affectlake forget {who} --purge` removes them; those versions then lack these tables")
    for away in found.remotes:
        lines += _remote(away)
    if found.files:
        lines.append("files in this folder that contain the id; remove the rows or the files yourself:")
        lines += [f"  {path}" for path in found.files[:_SHOWN]]
    if found.git:
        lines.append("Git's history contains the id in:")
        lines += [f"  {name}" for name in found.git[:_SHOWN]]
        lines.append("  to do: rewrite it in every clone with `git filter-repo --replace-text FILE`; versions change")
    if not found.is_searched:
        lines.append("the id is too short to search files and Git's history for it: look through them yourself")
    lines.append(
        "not searched: other clones (each needs `affectlake pull`, then this command with --purge), backups, exported"
        " and deposited files"
    )
    return lines


def _remote(away: Away) -> list[str]:
    """Return lines about a remote, with a command that removes the files."""
    where = f"remote {away.name} ({away.url})"
    head = f"{where} could not be asked: {away.note}" if away.note else f"{where}: {len(away.paths):,} files"
    scheme = away.url.split("://")[0] if "://" in away.url else ""
    commands = [_command(scheme, away, path) for path in away.paths[:_SHOWN]]
    more = [f"  and {len(away.paths) - _SHOWN:,} more"] if len(away.paths) > _SHOWN else []
    return [f"{head}; to remove them:", *(f"  {one}" for one in commands), *more]


def _command(scheme: str, away: Away, path: str) -> str:
    whole = f"{away.url.rstrip('/')}/{path[path.index('files/md5') :]}"
    if scheme == "s3":
        return f"aws s3 rm {whole}"
    if scheme == "gs":
        return f"gcloud storage rm {whole}"
    if scheme == "ssh":
        host = away.url.split("://")[1].split("/")[0]
        return f"ssh {host} rm {path}"
    return f"rm -f {path}" if not scheme else f"delete {whole}"


COMMANDS: tuple[click.Command, ...] = (forget,)

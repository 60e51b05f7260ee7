"""The command line. Data goes to stdout, progress to stderr; exit status 0: done, 1: failed, 2: wrong usage."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from copy import copy
from importlib import import_module
from io import StringIO
from typing import TYPE_CHECKING, Any

import click

from affectlake.cli.options import VERSION, everywhere
from affectlake.errors import AffectlakeError, UsageError, nearest
from affectlake.extras import missing_extra, require
from affectlake.process.environment import configure_process
from affectlake.process.streams import open_closed_streams
from affectlake.process.terminal import complain

if TYPE_CHECKING:
    pass

FULL = "affectlake: the disk is full; no data was lost, no version changed\n  to do: free disk space, then run it again"


# the module of each command that is not in this one; it is imported when the command is used
MODULES = {
    **dict.fromkeys(
        ("init", "run", "publish", "steps", "render", "step", "fetch"),
        "affectlake.cli.building",
    ),
    **dict.fromkeys(("report", "maps"), "affectlake.cli.reports"),
    **dict.fromkeys(
        ("versions", "tag", "query", "checkout", "restore", "diff", "cite"),
        "affectlake.cli.versions",
    ),
    **dict.fromkeys(("fsck", "push", "pull", "gc"), "affectlake.cli.keeping"),
    "propose": "affectlake.cli.planning",
    **dict.fromkeys(("collect", "status", "collection"), "affectlake.cli.collection"),
    **dict.fromkeys(("positions", "injections"), "affectlake.cli.judging"),
    "figure": "affectlake.cli.figures",
    "protocols": "affectlake.cli.protocols",
    **dict.fromkeys(("schedule", "serve"), "affectlake.cli.schedules"),
    "experiment": "affectlake.cli.experiments",
    "import": "affectlake.cli.importing",
    "join": "affectlake.cli.joining",
    "forget": "affectlake.cli.forgetting",
    "remote": "affectlake.cli.remotes",
    "verify": "affectlake.cli.verification",
    "completion": "affectlake.cli.completion",
    **dict.fromkeys(("archive", "open", "views"), "affectlake.cli.archiving"),
    **dict.fromkeys(("ui", "bundle"), "affectlake.cli.pages"),
}

_OF_STUDIES = (
    "init run steps render publish maps step ui bundle collect status collection propose positions injections protocols"
    " schedule serve experiment import join forget verify"
)
NEEDS = dict.fromkeys(("push", "pull", "remote"), "remote") | dict.fromkeys(_OF_STUDIES.split(), "study")
"""The extra that each command needs; all others read a lake and need none."""

EARLIER_NAMES = {"plan": "propose", "canaries": "injections"}
"""Names of commands before version 0.2. They are hidden, and will be removed in the release after it."""


class _Commands(click.Group):
    """A group that imports its commands lazily, and suggests the most similar command for an unknown one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *MODULES])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in EARLIER_NAMES:
            return _renamed(self.get_command(ctx, EARLIER_NAMES[cmd_name]), cmd_name)
        if cmd_name not in MODULES:
            return _with_options(super().get_command(ctx, cmd_name))
        commands: tuple[click.Command, ...] = import_module(MODULES[cmd_name]).COMMANDS
        return _with_options(next(command for command in commands if command.name == cmd_name))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            known = self.list_commands(ctx)
            raise UsageError(f"there is no command {args[0]!r}", allowed=", ".join(known), todo=nearest(args[0], known))
        name, command, rest = super().resolve_command(ctx, args)
        named = str(command.name) if command is not None else ""
        if named in NEEDS and not {"-h", "--help"}.intersection(rest):
            require(NEEDS[named], f"affectlake {named}")
        return name, command, rest


def _with_options(command: click.Command | None) -> click.Command | None:
    """Add the options of every command to a command and its subcommands."""
    if command is not None and not any(parameter.name == "quiet" for parameter in command.params):
        command.params.extend(everywhere(hidden=True))
        for one in command.commands.values() if isinstance(command, click.Group) else ():
            _with_options(one)
    return command


def _renamed(command: click.Command | None, earlier: str) -> click.Command:
    """Return a hidden copy of `command` under an earlier name; using it prints the current name on stderr."""
    assert command is not None
    alias = copy(command)
    alias.name, alias.hidden, alias.deprecated = earlier, True, f"use `affectlake {command.name}`"
    return alias


@click.group(cls=_Commands, params=everywhere(hidden=False), context_settings={"help_option_names": ["-h", "--help"]})
@VERSION
def cli() -> None:
    """Ask models how emotions differ, keep the answers in exact versions, and compare with people and brains.

    The options below may also follow COMMAND.
    """


def _is_full(error: BaseException | None) -> bool:
    """Return whether a full disk caused an error: by its number or, for Git and SQLite, its message."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error) or "database or disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    given = sys.argv[1:] if arguments is None else arguments
    open_closed_streams()
    named = next((word for word in given if not word.startswith("-")), "")
    configure_process(for_prefect=NEEDS.get(EARLIER_NAMES.get(named, named)) == "study")
    try:
        cli.main(given, standalone_mode=False)
        sys.stdout.flush()
        if arguments is None and given[:1] == ["query"]:
            os._exit(0)  # the rows are written and DuckDB is closed; Python's shutdown takes a tenth of the time
    except click.ClickException as error:
        shown = StringIO()
        error.show(shown)
        complain(shown.getvalue().rstrip())
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        complain("affectlake: interrupted; finished work is kept, the version did not change")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        lacking = missing_extra(error, f"affectlake {named}")
        if "--debug" in given:
            complain(traceback.format_exc())
        elif lacking is not None:
            complain(f"affectlake: {lacking}")
        elif _is_full(error):
            complain(FULL)
        elif isinstance(error, AffectlakeError):
            complain(f"affectlake: {error}")
        else:
            what = ", ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
            complain(f"affectlake: {what}\n  to do: run again with --debug for the traceback")
        sys.exit(error.exit_code if isinstance(error, AffectlakeError) else 1)

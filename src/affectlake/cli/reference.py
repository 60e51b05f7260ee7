"""The reference of the command line, ``docs/cli.md``, which is generated from the commands."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc

import click

from affectlake.cli.main import cli

# the commands by purpose; a test checks that every command is in one of the chapters
CHAPTERS: dict[str, tuple[str, ...]] = {
    "Make and build a study": ("init", "run", "steps", "render", "publish", "report", "figure", "maps", "fetch"),
    "Ask models": ("collect", "status", "propose", "protocols", "positions", "injections", "schedule"),
    "Ask people": ("experiment",),
    "Import judgments that people gave, and forget participants": ("import", "forget"),
    "Read and compare versions": (
        "versions",
        "ui",
        "bundle",
        "tag",
        "query",
        "diff",
        "checkout",
        "restore",
        "cite",
        "verify",
    ),
    "Keep, check and share data": ("remote", "push", "pull", "join", "archive", "open", "views", "fsck", "gc"),
    "Use a shell": ("completion",),
}


def render() -> str:
    """Return ``docs/cli.md``: every command that is not hidden, with its arguments and options."""
    context = click.Context(cli, info_name="affectlake")
    lines = [
        "# Command line",
        "",
        "Generated from `affectlake --help` by `make docs`; edit the commands in `src/affectlake/cli/`, not this page.",
        "",
        "Data goes to stdout, progress to stderr. Exit status: 0 done, 1 failed, 2 wrong usage. `--lake DIR` names the",
        "lake; without it, the lake is the folder you are in.",
        "",
        "Every command also has `--quiet` (results and errors alone), `--verbose` (more progress, with times), and",
        "`--debug` (tracebacks). On a terminal, marks are coloured; set `NO_COLOR=1` to leave colours out.",
    ]
    for chapter, names in CHAPTERS.items():
        lines += ["", f"## {chapter}"]
        for name in names:
            command = cli.get_command(context, name)
            assert command is not None, name
            lines += _command(command, click.Context(command, info_name=name, parent=context))
    return "\n".join([*lines, ""])


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = cleandoc(command.help or "")  # before Python 3.13, docstrings keep their indentation
    yield from ("", f"### `{context.command_path}`", "", f"`{usage}`", "", text)
    options = [
        parameter for parameter in command.params if isinstance(parameter, click.Option) and not parameter.hidden
    ]
    if options:
        yield from ("", "| option | meaning |", "|---|---|")
        for option in options:
            names, text = option.get_help_record(context) or ("", "")
            yield f"| `{names}` | {text} |".replace("||", "\\|\\|")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            if sub is not None and not sub.hidden:
                yield from _command(sub, click.Context(sub, info_name=name, parent=context))

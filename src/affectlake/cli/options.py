"""Options of several commands."""

from __future__ import annotations

from pathlib import Path

import click

from affectlake.cli import completion
from affectlake.errors import UsageError
from affectlake.process.terminal import Detail, detail, set_detail

LAKE = click.option(
    "--lake",
    "lake",
    type=click.Path(path_type=Path),
    default=Path(),
    help="A folder in the lake; by default, the current folder.",
)
AT = click.option(
    "--at",
    default="",
    metavar="VERSION",
    shell_complete=completion.versions,
    help="The version to read, such as v3, a name of `affectlake tag`, or a date; by default, the latest.",
)
SET = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a value in params.yaml first.")
REMOTE = click.option("--remote", default="", metavar="NAME", help="A DVC remote; by default, DVC's default remote.")
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


def _set_detail(context: click.Context, parameter: click.Parameter, is_wanted: bool) -> None:
    if context.parent is None and parameter.name == "quiet":
        set_detail(Detail.USUAL)  # of an earlier command in this process
    if not is_wanted:
        return
    wanted = Detail.QUIET if parameter.name == "quiet" else Detail.VERBOSE
    if detail() not in (Detail.USUAL, wanted):
        raise UsageError("--quiet and --verbose contradict each other", todo="leave one of them out")
    set_detail(wanted)


def everywhere(*, hidden: bool) -> list[click.Option]:
    """Return the options of every command; they are listed in the help of `affectlake` and hidden in others."""
    given = {"is_flag": True, "expose_value": False, "hidden": hidden}
    return [
        click.Option(
            ["-q", "--quiet"], callback=_set_detail, is_eager=True, help="Print results and errors alone.", **given
        ),
        click.Option(
            ["-v", "--verbose"],
            callback=_set_detail,
            help="Print more, each line with the time since the start.",
            **given,
        ),
        click.Option(["--debug"], help="Show tracebacks.", **given),
    ]


def _print_version(context: click.Context, _parameter: click.Parameter, is_wanted: bool) -> None:
    if is_wanted and not context.resilient_parsing:
        from affectlake.process.code_version import code_version  # late: it may ask Git

        click.echo(f"affectlake, version {code_version()}")
        context.exit()


VERSION = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)

"""Options of several commands."""

from __future__ import annotations

from pathlib import Path

import click

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
    help="The version to read, such as v3, a name of `affectlake tag`, or a date; by default, the latest.",
)
SET = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a value in params.yaml first.")
REMOTE = click.option("--remote", default="", metavar="NAME", help="A DVC remote; by default, DVC's default remote.")
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


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

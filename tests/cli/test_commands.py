"""The names of the commands: present ones are in the reference, earlier ones still work and name the present ones."""

from __future__ import annotations

import importlib

import click
import pytest
from click.testing import CliRunner

from affectlake.cli.main import EARLIER_NAMES, MODULES, cli
from affectlake.cli.reference import CHAPTERS, render


def names() -> dict[str, click.Command]:
    """Every command, hidden ones too, by its name."""
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in [*cli.list_commands(context), *EARLIER_NAMES]}
    return {name: command for name, command in found.items() if command is not None}


def test_every_command_is_in_one_chapter_of_the_reference() -> None:
    shown = sorted(name for name, command in names().items() if not command.hidden)
    assert sorted(name for chapter in CHAPTERS.values() for name in chapter) == shown


def test_a_command_is_imported_from_the_module_that_defines_it() -> None:
    for module in set(MODULES.values()):
        named = {command.name for command in importlib.import_module(module).COMMANDS}
        assert named == {name for name, place in MODULES.items() if place == module}


def test_the_reference_has_every_command_and_every_option() -> None:
    page = render()
    for name, command in names().items():
        assert (f"### `affectlake {name}`" in page) == (not command.hidden), name
    for command in names().values():
        for one in [command, *(command.commands.values() if isinstance(command, click.Group) else ())]:
            if not command.hidden:
                assert all(option in page for parameter in one.params for option in parameter.opts if option[0] == "-")


def test_every_command_says_what_it_does() -> None:
    for name, command in names().items():
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not command.hidden:
                assert parameter.help, (name, parameter.name)


@pytest.mark.parametrize(
    ("earlier", "present"),
    [
        (["plan"], "propose"),
        (["canaries"], "injections"),
        (["collection", "status"], "status"),
        (["serve", "--list"], "schedule"),
    ],
)
def test_an_earlier_name_works_and_names_the_present_one(earlier: list[str], present: str) -> None:
    done = CliRunner().invoke(cli, [*earlier, "--help"])
    assert done.exit_code == 0
    assert f"affectlake {present}" in " ".join(done.output.split())
    assert f"  {earlier[0]} " not in CliRunner().invoke(cli, ["--help"]).output


def test_an_earlier_name_reaches_the_command(published: object) -> None:
    done = CliRunner().invoke(cli, ["serve", "--list", "--lake", str(published)])
    assert "affectlake schedule" in done.stderr
    assert "is deprecated" in done.stderr
    done = CliRunner().invoke(cli, ["canaries", "nobody", "--lake", str(published)])
    assert "affectlake injections" in done.stderr

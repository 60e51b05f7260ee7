"""Completion in the shell: commands and options by click, and the agents, versions, tables and stages of the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from affectlake.errors import AffectlakeError

_VARIABLE = "_AFFECTLAKE_COMPLETE"  # by which click tells a request for completions from a command
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _of_lake(names: Callable[[Path], Iterable[str]]) -> Complete:
    """Return a function that completes the names in the lake of a command line; none if it cannot be read."""

    @wraps(names)
    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from affectlake.lake.store.root import find

        try:
            found = list(names(find(context.params.get("lake") or Path())))
        except (AffectlakeError, OSError, UnicodeError, AttributeError):
            return []
        return [CompletionItem(name) for name in found if name.startswith(incomplete)]

    return complete


@_of_lake
def agents(lake: Path) -> Iterable[str]:
    """Return the names of the agents in params.yaml, which need not be valid otherwise."""
    import yaml

    from affectlake.lake.files import layout

    try:
        found = yaml.load((lake / layout.PARAMS).read_text(encoding="utf-8"), yaml.CSafeLoader)
    except yaml.YAMLError:
        return []
    return map(str, found["agents"]) if isinstance(found, dict) and isinstance(found.get("agents"), dict) else []


@_of_lake
def versions(lake: Path) -> Iterable[str]:
    """Return the versions, newest first, `latest`, and the names that `affectlake tag` gave."""
    from affectlake.lake.store.version_names import version_names
    from affectlake.lake.store.versions import list_versions

    return [*(version.name for version in reversed(list_versions(lake))), "latest", *version_names(lake)]


@_of_lake
def tables(lake: Path) -> Iterable[str]:
    """Return the tables of the latest version."""
    from affectlake.lake.store.versions import Manifest, resolve

    return Manifest(lake, resolve(lake).commit).tables()


@_of_lake
def stages(lake: Path) -> Iterable[str]:
    """Return the steps and the stages in dvc.yaml."""
    from affectlake.lake.store.versions import Manifest

    names = list(Manifest(lake, "").stages)
    return dict.fromkeys([*(name.partition("@")[0] for name in names), *names])


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands, options, agents, versions, tables and stages in a shell.

    For bash, in ~/.bashrc: eval "$(affectlake completion bash)". For zsh, the same with zsh in ~/.zshrc. For fish:
    affectlake completion fish > ~/.config/fish/completions/affectlake.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(click.Group("affectlake"), {}, "affectlake", _VARIABLE).source())


COMMANDS = (completion,)

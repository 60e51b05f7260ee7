"""The commands for protocols: list them, print what would be sent, check a file, and start one from another."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from affectlake.cli import completion
from affectlake.cli.collection import TRIAL_SET, progress_bar
from affectlake.cli.options import JSON, LAKE
from affectlake.process.terminal import log
from affectlake.process.text_table import text_table

if TYPE_CHECKING:
    from affectlake.pipelines.collection.comparing import Share


@click.group()
def protocols() -> None:
    """How agents are asked: the built-in protocols, and those of the lake in `protocols/NAME.yaml`."""


@protocols.command("list")
@LAKE
@JSON
def list_protocols(lake: Path, as_json: bool) -> None:
    """List the protocols with their names in tables and the agents that use them, and mistakes in files."""
    from affectlake.errors import AffectlakeError
    from affectlake.judge.protocols.builtin import BUILT_IN, built_in
    from affectlake.judge.protocols.protocol import Protocol
    from affectlake.lake import repository
    from affectlake.pipelines.collection.preview import agents_asked_by
    from affectlake.pipelines.params.protocols import all_own, path_of
    from affectlake.pipelines.params.study import load

    root = repository.find(lake)
    every: list[tuple[str, str, Protocol | AffectlakeError]] = [(one, "built in", built_in(one)) for one in BUILT_IN]
    every += [(name, str(path_of(name)), found) for name, found in all_own(root)]
    mistakes = [found for _, _, found in every if isinstance(found, AffectlakeError)]
    params = None if mistakes else load(root)
    rows, cells = list[dict[str, object]](), list[list[str]]()
    for name, place, found in every:
        if isinstance(found, AffectlakeError):
            rows.append({"name": name, "file": place, "mistake": str(found)})
            cells.append([name, place, "not valid", "", "", ""])
            continue
        users = agents_asked_by(params, found) if params else []
        cells.append([name, place, found.modality, found.answer.read, found.full_name, ", ".join(users)])
        keys = ("name", "file", "modality", "answer", "in_tables")
        rows.append(dict(zip(keys, cells[-1], strict=False)) | {"agents": users, "mistake": None})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo(text_table([["name", "from", "modality", "answer", "name in tables", "agents"]], cells))
    for mistake in mistakes:
        log(str(mistake))
    if mistakes:
        raise SystemExit(1)


@protocols.command("show")
@click.argument("name")
@LAKE
@click.option("--agent", default="", metavar="AGENT", help="Agent to ask; by default, the first one that uses it.")
@click.option("--trial", metavar="I,J,K", help="Stimulus indices; by default, the first trial of the main set.")
@click.option("--full", is_flag=True, help="Print the data of images and videos too.")
def show_protocol(name: str, lake: Path, agent: str, trial: str | None, full: bool) -> None:
    """Print the request of one trial by the protocol NAME, exactly as it would be sent, as JSON.

    Without an agent, the model and the stimuli are placeholders. The shortened data of images and videos is the only
    difference to what is sent; `--full` prints them too.
    """
    from affectlake.errors import UsageError
    from affectlake.lake import repository
    from affectlake.pipelines.collection.planning import chat_agent, has_question_tables
    from affectlake.pipelines.collection.preview import (
        agents_asked_by,
        protocols_named,
        request_of,
        request_without_agent,
        shortened,
    )
    from affectlake.pipelines.params.study import load

    root = repository.find(lake)
    found, params = protocols_named(root, name), load(root)
    if len(found) > 1:
        modality = chat_agent(params, agent).modality if agent else found[0].modality
        users = [one for one in found if agents_asked_by(params, one)]
        found = [one for one in found if one.modality == modality] if agent or not users else users
    (asking, *others) = found
    asked = agents_asked_by(params, asking)
    ready = [one for one in asked if trial is not None or has_question_tables(root, params, chat_agent(params, one))]
    who = agent or next(iter(ready), "")
    if trial is not None and not who:
        raise UsageError("--trial needs an agent", todo="name one with --agent")
    body = request_of(root, params, asking, who, _parsed(trial)) if who else request_without_agent(asking)
    log(f"{asking.full_name}: {asking.modality}, answers read by {asking.answer.read}")
    for other in others:
        log(f"see also {other.full_name}: `affectlake protocols show {other.name}`")
    if not who:
        why = "nothing to show to its agents was made yet" if asked else "no agent uses it"
        log(f"{why}: the model and the stimuli are placeholders; name an agent with --agent")
    click.echo(json.dumps(body if full else shortened(body), indent=2, ensure_ascii=False))


def _parsed(trial: str | None) -> tuple[int, int, int] | None:
    """Return the stimulus indices of an option such as ``3,17,29``; None without the option."""
    from affectlake.errors import UsageError

    if trial is None:
        return None
    words = trial.split(",")
    if len(words) != 3 or not all(word.strip().isdigit() for word in words) or len(set(words)) < 3:
        raise UsageError("--trial needs three different stimulus indices", wanted="such as 3,17,29", found=repr(trial))
    i, j, k = map(int, words)
    return i, j, k


@protocols.command("check")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def check_protocol(file: Path) -> None:
    """Check a protocol FILE: its keys, its patterns, and that its examples are read as it says."""
    from affectlake.pipelines.params.protocols import read_protocol

    found = read_protocol(file).protocol
    n = len(found.example)
    examples = f"{n} example{'s are' if n != 1 else ' is'} read as expected" if n else "no examples"
    click.echo(f"{file} is valid: {found.full_name}, {found.modality}, {found.answer.read}; {examples}")


@protocols.command("copy")
@click.argument("source")
@click.argument("name")
@LAKE
def copy_protocol(source: str, name: str, lake: Path) -> None:
    """Write `protocols/NAME.yaml`, to start from, with the content of the protocol SOURCE.

    SOURCE is a protocol of the lake or a built-in one such as `describe-then-choose/caption`.
    """
    from affectlake.lake import repository
    from affectlake.pipelines.params.protocols import write_copy

    path = write_copy(repository.find(lake), source, name)
    log(f"wrote {path}; edit it, check it with `affectlake protocols check {path}`, and name it in params.yaml:")
    log(f"  agents: {{AGENT: {{…, protocol: {name}}}}}")


@protocols.command("compare")
@click.argument("agent", shell_complete=completion.agents)
@LAKE
@click.option("--protocol", "names", multiple=True, required=True, metavar="NAME", help="A protocol; may be repeated.")
@click.option("--trials", "n_trials", type=int, required=True, metavar="N", help="Number of random trials to ask.")
@TRIAL_SET
@JSON
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Also write JSON to FILE.")
def compare_protocols(
    agent: str, lake: Path, names: tuple[str, ...], n_trials: int, trial_set: str, as_json: bool, out: Path | None
) -> None:
    """Ask AGENT the same trials by its own protocol and by others, and compare the answers.

    Each protocol is an agent of its own, with the name AGENT-PROTOCOL and the same settings; those that are missing are
    added to params.yaml. The answers are collected and published as by `affectlake collect --sample N`: what is stored
    is not asked again, and counts in the study.
    """
    from affectlake.flows.collect import run_collection
    from affectlake.lake import repository
    from affectlake.lake.files.atomic import write_whole
    from affectlake.pipelines.collection.comparing import agents_for, compare
    from affectlake.pipelines.collection.request import CollectionRequest, CollectionResult
    from affectlake.pipelines.params.study import load
    from affectlake.process.interrupts import end_now, exit_on_interrupt

    root = repository.find(lake)
    agents, added = agents_for(root, load(root), agent, names)
    for name in added:
        log(f"added {name} to params.yaml")
    kept = "every answer received is kept; run it again to continue"

    def ended(done: CollectionResult) -> None:
        if done.ending == "stopped":
            log(f"affectlake: stopped by a signal; {kept}")
            end_now(130)

    for name in agents:
        with exit_on_interrupt(log, kept), progress_bar() as show:
            log(str(run_collection(root, CollectionRequest(name, trial_set, sample=n_trials), log, show, ended)))
    found = compare(root, load(root), agents, trial_set, n_trials)
    rows = {
        "trial_set": trial_set,
        "agents": [
            one._asdict()
            | {
                "unparsed": _mapping(one.unparsed),
                "positions": [_mapping(share) for share in one.positions],
                "flips": _plain(one.flips),
                "tied": _mapping(one.tied),
            }
            for one in found.agents
        ],
        "agreement": [{"first": one.first, "second": one.second, **_mapping(one.same)} for one in found.pairs],
    }
    text = json.dumps(rows, indent=2)
    if out:
        write_whole(out.absolute(), f"{text}\n".encode())
    if as_json:
        click.echo(text)
        return
    head = ["agent", "protocol", "trials", "choices", "unparsed", "first", "second", "third", "flips", "tied"]
    cells = [
        [
            one.agent,
            one.protocol,
            f"{one.n_trials:,}",
            f"{one.n_choices:,}",
            _percent(one.unparsed),
            *map(_percent, one.positions),
            "-" if _plain(one.flips) is None else f"{one.flips:.1%}",
            _percent(one.tied),
        ]
        for one in found.agents
    ]
    click.echo(text_table([head], cells, right=range(2, len(head))))
    click.echo()
    pairs = [[one.first, one.second, f"{one.same.n:,}", _percent(one.same)] for one in found.pairs]
    click.echo(text_table([["agent", "other", "trials", "same choice"]], pairs, right=(2, 3)))


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mapping(share: Share) -> dict[str, float | None]:
    return {"value": _plain(share.value), "low": _plain(share.low), "high": _plain(share.high), "n": share.n}


def _percent(share: Share) -> str:
    return f"{share.value:.1%} [{100 * share.low:.1f}, {100 * share.high:.1f}]" if share.n else "-"


COMMANDS: tuple[click.Command, ...] = (protocols,)

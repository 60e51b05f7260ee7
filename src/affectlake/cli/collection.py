"""The commands for collections: ask servers, estimate the cost, and print the status.

Collections are implemented in :mod:`affectlake.flows.collect`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

import click

from affectlake.cli import completion
from affectlake.cli.options import JSON, LAKE
from affectlake.process.terminal import Detail, detail, log

if TYPE_CHECKING:
    from affectlake.judge.requests.answers import FailureKind
    from affectlake.judge.responses.quality import Quality
    from affectlake.pipelines.collection.cost import CostEstimate
    from affectlake.pipelines.collection.request import CollectionProgress, CollectionRequest, CollectionResult
    from affectlake.pipelines.collection.status import Status
    from affectlake.pipelines.params.study import Params
    from affectlake.pipelines.steps.easy_trials import EasyScore

TRIAL_SET = click.option(
    "--trial-set", default="main", show_default=True, help="main, validation, noise_ceiling or easy."
)
_LINE_EVERY_S = 15.0
_REASONS_SHOWN = 5


@click.command()
@click.argument("agent", shell_complete=completion.agents)
@LAKE
@TRIAL_SET
@click.option("--limit", type=int, metavar="N", help="Ask at most N questions; by default, all remaining ones.")
@click.option("--until-done", is_flag=True, help="If servers are down or fail too often, try again after a pause.")
@click.option("--retry-failed", is_flag=True, help="Ask only questions that failed for good before.")
@click.option("--proposed", is_flag=True, help="Ask only the triplets last proposed by `affectlake propose`.")
@click.option("--share", metavar="K/N", help="Ask only share K of N; each clone of the lake takes another share.")
@click.option("--sample", type=int, metavar="N", help="Ask only N random trials, the same for all agents.")
@click.option(
    "--anyway", is_flag=True, help="Continue if the first answers are unreadable, or all choose one position."
)
@click.option("--dry-run", is_flag=True, help="Only estimate tokens, hours and money; ask nothing, or --sample N.")
def collect(
    agent: str,
    lake: Path,
    trial_set: str,
    limit: int | None,
    until_done: bool,
    retry_failed: bool,
    proposed: bool,
    share: str | None,
    sample: int | None,
    anyway: bool,
    dry_run: bool,
) -> None:
    """Ask the servers of AGENT the remaining questions of a trial set, and publish the answers."""
    from affectlake.flows.collect import run_collection
    from affectlake.judge.trials.shares import parse_share
    from affectlake.lake import repository
    from affectlake.pipelines.collection.request import CollectionRequest
    from affectlake.process.interrupts import end_now, exit_on_interrupt

    part = None if share is None else parse_share(share)
    root = repository.find(lake)
    wanted = CollectionRequest(agent, trial_set, limit, until_done, retry_failed, proposed, part, sample, anyway)
    kept = "every answer received is kept; run it again to continue"
    with exit_on_interrupt(log, kept), progress_bar() as show:
        if dry_run:
            click.echo(_estimated(root, wanted, show))
            return

        def ended(done: CollectionResult) -> None:
            if done.ending == "stopped":
                click.echo(done)
                log(f"affectlake: stopped by a signal; {kept}")
                end_now(130)

        done = run_collection(root, wanted, log, show, ended)
    if done.version is not None:
        log(f"published {done.version.name}; `affectlake run` converts the answers to choices")
    for line in _quality_lines(root, wanted):
        log(line)
    click.echo(done)


def _quality_lines(root: Path, wanted: CollectionRequest) -> list[str]:
    """Return what the latest answers of the agent are: parsed, positions and verdict; nothing without answers."""
    from affectlake.pipelines.collection.planning import chat_agent, easy_score_of
    from affectlake.pipelines.collection.status import quality_of
    from affectlake.pipelines.params.study import load

    agent = chat_agent(load(root), wanted.agent)
    return [*_lines_of(quality_of(root, agent, wanted.trial_set)), *_easy_lines(easy_score_of(root, agent))]


def _easy_lines(score: EasyScore | None) -> list[str]:
    """Return how many easy trials were right; nothing if none has a choice."""
    if score is None or not score.n:
        return []
    lines = [f"right              {score}"]
    return [*lines, "verdict            not shown to be better than chance in easy trials"] if score.verdict else lines


def _lines_of(found: Quality) -> list[str]:
    shares = (found.shares, found.probabilities)
    return _format_quality(found.n_answers, found.share_parsed, *shares, found.unread, found.verdict)


def _format_quality(
    n: int,
    parsed: float,
    shares: tuple[float, float, float],
    probabilities: tuple[float, float, float] | None,
    unread: Mapping[str, int],
    verdict: str,
    of: str = "",
) -> list[str]:
    if not n:
        return []
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(unread.items(), key=lambda one: -one[1])[:3])
    lines = [f"parsed             {parsed:.2%}{of or f' of {n:,}'}" + (f" (not: {reasons})" if reasons else "")]
    if parsed:
        lines.append(f"positions chosen   {', '.join(f'{share:.1%}' for share in shares)}")
    if probabilities is not None:
        lines.append(f"mean probability   {', '.join(f'{one:.1%}' for one in probabilities)}")
    return [*lines, *([f"verdict            {verdict}"] if verdict else [])]


@click.group(hidden=True)
def collection() -> None:
    """Collected answers."""


@click.command()
@LAKE
@JSON
@click.option("--check", is_flag=True, help="Print only the health of the schedules; the exit status is 1 if failing.")
def status(lake: Path, as_json: bool, check: bool) -> None:
    """Print planned, answered, parsed and failed questions, positions, tokens and hours by agent and trial set."""
    from affectlake.lake import repository
    from affectlake.pipelines.collection.status import statuses
    from affectlake.pipelines.params.study import load

    root = repository.find(lake)
    params = load(root)
    if check:
        _check(root, params, as_json)
        return
    found = statuses(root, params)
    if as_json:
        from affectlake.flows.schedules.health import health

        healths = {agent: _plain(health(root, params, agent)) for agent in dict.fromkeys(one.agent for one in found)}
        rows = [
            {
                **{k: _plain(v) for k, v in one._asdict().items()},
                "health": healths[one.agent],
                "stopped_schedules": _stopped(root, params, one),
            }
            for one in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for one in found:
        stopped = [f"schedule {name} stopped: {why}" for name, why in _stopped(root, params, one).items()]
        click.echo("\n    ".join([_format_status(one), *stopped]))
    if not found:
        log("params.yaml has no agent of kind chat")


def _stopped(root: Path, params: Params, one: Status) -> dict[str, str]:
    """Return why schedules of an agent and trial set have stopped, by schedule."""
    from affectlake.flows.schedules.comparisons import stop_of, to_start_again

    own = [two for two in params.schedules.values() if (two.agent, two.trial_set) == (one.agent, one.trial_set)]
    stops = [(schedule, stop_of(root, params, schedule)) for schedule in own]
    return {schedule.name: f"{stop}; {to_start_again(schedule)}" for schedule, stop in stops if stop is not None}


def _check(root: Path, params: Params, as_json: bool) -> None:
    """Print the health of the schedules; exit with status 1 if it is failing."""
    from affectlake.flows.schedules.health import health

    found = health(root, params)
    if as_json:
        click.echo(json.dumps(_plain(found), indent=2))
    else:
        click.echo("\n".join([found.health, *map(str, found.reasons)]))
    if found.health == "failing":
        sys.exit(1)


def _plain(value: object) -> object:
    """Return a value for JSON; NaN becomes null."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


def _most(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the most frequent reasons, and the number of rows with other reasons."""
    some = list(reasons.items())[:_REASONS_SHOWN]
    rest = sum(reasons.values()) - sum(n for _, n in some)
    return [*some, ("for other reasons; --json lists all", rest)] if rest else some


def _format_status(one: Status) -> str:
    share = one.n_answered / one.n_planned if one.n_planned else 0.0
    lines = [f"{one.agent} · {one.trial_set}: {one.n_answered:,} of {one.n_planned:,} answered ({share:.1%})"]
    if one.n_waiting:
        lines.append(f"not yet published  {one.n_waiting:,}; the next `affectlake collect {one.agent}` publishes them")
    if one.quarantined:
        n = sum(one.quarantined.values())
        lines.append(f"in quarantine      {n:,}; each `affectlake collect {one.agent}` tries to publish them again")
        lines += [f"                   {count:,}: {reason}" for reason, count in _most(one.quarantined)]
    if one.n_looked_at:
        of = (
            f" of the latest {one.n_looked_at:,}"
            if one.n_looked_at < one.n_answered + one.n_waiting - one.n_waiting_failed
            else ""
        )
        shares = (one.positions, one.probabilities)
        lines += _format_quality(one.n_looked_at, one.share_parsed, *shares, one.unread, one.verdict, of)
    lines += _easy_lines(one.easy)
    if one.n_failed:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in one.n_failed.items())
        lines.append(f"failed for good    {kinds}; --retry-failed asks them again")
    if one.n_other:
        lines.append(f"other settings     {one.n_other:,} (a different model, revision, protocol or sampling)")
    if one.n_answered:
        lines.append(
            f"tokens             {one.prompt_tokens:,} read ({one.cached_tokens:,} of them cached),"
            f" {one.completion_tokens:,} written"
        )
    if math.isnan(one.hours):
        lines.append("hours of requests  unknown: MLflow does not answer")
    elif one.hours:
        lines.append(f"hours of requests  {one.hours:.2f}")
    if one.holder:
        lines.append(f"collecting now     {one.holder}")
    if one.device:
        lines.append(f"device             {one.device}")
    return "\n    ".join(lines)


def _estimated(root: Path, wanted: CollectionRequest, show: Callable[[CollectionProgress], None]) -> str:
    from affectlake.flows.build import build_questions
    from affectlake.pipelines.collection.cost import estimate_cost
    from affectlake.pipelines.collection.planning import chat_agent
    from affectlake.pipelines.params.study import load

    build_questions(root, chat_agent(load(root), wanted.agent), log)
    one: CostEstimate = estimate_cost(root, wanted, log, show)
    lines = [f"{wanted.label}: {one.n_left:,} requests remain"]
    if one.n_easy:
        lines.append(f"{one.n_easy:,} requests of easy trials come first")
    if one.n_left and not one.n_sample:
        how = "with --sample 40, 40 questions are asked, and their answers are kept"
        lines.append(f"tokens, hours and money are unknown: nothing is measured yet; {how}")
    elif one.n_left:
        n = f"{one.n_sample:,} answers"
        lines.append(f"tokens   {one.prompt_tokens:,.1f} read and {one.completion_tokens:,.1f} written a request ({n})")
        at = f"{one.hours:,.2f} at {one.per_second:,.1f} a second" if one.per_second else "unknown"
        lines.append(f"hours    {at} ({one.measured_on})")
        price = "params.yaml has no price for this agent" if one.money is None else f"{one.money:,.2f}"
        lines.append(f"money    {price}")
    lines += _quality_lines(root, wanted) if one.quality is None else _lines_of(one.quality)
    return "\n    ".join(lines)


@contextmanager
def progress_bar() -> Iterator[Callable[[CollectionProgress], None]]:
    """Yield a function that shows the progress of a run: a bar on a terminal, otherwise a line at intervals."""
    if detail() is Detail.QUIET:
        yield lambda _shown: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (BarColumn(30), MofNCompleteColumn(), TextColumn("{task.fields[details]}"))
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("asking", total=None, details="", visible=False)

        def show(shown: CollectionProgress) -> None:
            details = _format_progress(shown)
            bars.update(bar, completed=shown.n_done, total=shown.n_wanted, details=details, visible=True)

        yield show


def _lines() -> Callable[[CollectionProgress], None]:
    from time import monotonic

    printed_s = monotonic() - _LINE_EVERY_S

    def show(shown: CollectionProgress) -> None:
        nonlocal printed_s
        if monotonic() - printed_s >= _LINE_EVERY_S or shown.n_done == shown.n_wanted:
            printed_s = monotonic()
            log(f"{shown.n_done:,} of {shown.n_wanted:,}: {_format_progress(shown)}")

    return show


def _format_progress(shown: CollectionProgress) -> str:
    """Return the rate, remaining time, share parsed, failures by kind and tokens."""
    now = shown.progress
    parts = [f"{now.per_second:,.1f}/s"]
    if now.per_second > 0:
        parts.append(f"{_duration((shown.n_wanted - shown.n_done) / now.per_second)} left")
    if now.n_answered:
        parts.append(f"{now.n_read / now.n_answered:.1%} parsed")
    parts += [_format_kinds("failed", now.errors), _format_kinds("retried", now.retries)]
    parts.append(f"{now.prompt_tokens:,} tokens in, {now.completion_tokens:,} out")
    return " · ".join(part for part in parts if part)


def _format_kinds(what: str, counts: Mapping[FailureKind, int]) -> str:
    return f"{what}: {', '.join(f'{n} {kind}' for kind, n in sorted(counts.items()))}" if counts else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


_earlier_status = copy(status)
_earlier_status.deprecated = "use `affectlake status`"
collection.add_command(_earlier_status)

COMMANDS = (collect, status, collection)

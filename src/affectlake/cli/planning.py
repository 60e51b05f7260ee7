"""The command that proposes triplets, implemented in :mod:`affectlake.pipelines.collection.proposals`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from affectlake.cli import completion
from affectlake.cli.options import JSON, LAKE
from affectlake.process.environment import compute_on_one_thread
from affectlake.process.terminal import log

if TYPE_CHECKING:
    from affectlake.pipelines.collection.proposals import Proposal


@click.command()
@click.argument("agent", shell_complete=completion.agents)
@LAKE
@click.option("--n", default=10_000, show_default=True, metavar="N", help="Number of triplets to propose.")
@JSON
def propose(agent: str, lake: Path, n: int, as_json: bool) -> None:
    """Propose informative triplets to ask AGENT next, so that fewer judgments give the same embedding."""
    compute_on_one_thread()
    from affectlake.judge.agents import ExperimentAgent
    from affectlake.lake import repository
    from affectlake.pipelines.collection import proposals
    from affectlake.pipelines.params.study import load
    from affectlake.process.interrupts import exit_on_interrupt

    root = repository.find(lake)
    with exit_on_interrupt(log, "nothing was proposed; run it again"), _status_line() as progress:
        params = load(root)
        done = proposals.propose(root, params, agent, n, log, progress)
    if done.version is not None:
        how = f"`affectlake collect {agent} --proposed`"
        if isinstance(params.agents[agent], ExperimentAgent):
            how = f"`affectlake experiment serve {agent}`, with `trials: propose`"
        log(f"published {done.version.name}; ask them with {how}")
    if as_json:
        fits, version = done.fits and done.fits._asdict(), done.version and done.version.name
        click.echo(json.dumps(done._asdict() | {"fits": fits, "version": version}, indent=2))
        return
    click.echo(_format_proposal(done))


def _format_proposal(done: Proposal) -> str:
    n_new = done.n_to_learn + done.n_held_out
    lines = [f"{done.agent} · round {done.round}: {n_new:,} of {done.n_open:,} open triplets proposed"]
    known = f"known        {done.n_judgments:,} judgments to learn from, {done.n_validation:,} for validation"
    known += f", {done.n_test:,} for testing"
    if done.fits is None:
        lines.append(f"{known}: too few for a choice, so the triplets were drawn at random")
    else:
        one, rights = done.fits, done.fits.accuracies
        share = f"{sum(rights) / len(rights):.2%} of the validation judgments, which stop their fits"
        lines.append(f"{known}; {len(rights)} embeddings predict {share}")
        lines.append(f"information  {one.information:.3f} nats per answer; {one.information_of_open:.3f} at random")
        unknown = "not determined: no embedding predicts better than chance"
        by_chance = unknown if one.lapse is None else f"{one.lapse:.1%} of the judgments (estimated lapse rate)"
        lines.append(f"by chance    {by_chance}")
        lines.append(f"fitted with  l1 {one.l1:.2g}; with `l1: auto` for the agent, `affectlake run` uses it too")
    if done.n_held_out:
        lines.append(
            f"held out     {done.n_held_out:,} of the proposed triplets, drawn at random, for validation and testing"
        )
    return "\n    ".join(lines)


@contextmanager
def _status_line() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the progress in one line on a terminal, and does nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _line: None
        return
    with console.status("") as shown:
        yield shown.update


COMMANDS: tuple[click.Command, ...] = (propose,)

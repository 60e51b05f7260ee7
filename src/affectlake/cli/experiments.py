"""The commands for experiments, in which people answer in a browser; :mod:`affectlake.pipelines.experiment`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from affectlake.cli import completion
from affectlake.cli.options import JSON, LAKE
from affectlake.process.terminal import log

if TYPE_CHECKING:
    from affectlake.pipelines.experiment.status import ExperimentStatus


@click.group()
def experiment() -> None:
    """People as judges: serve the odd-one-out task in a browser, and publish the answers."""


@experiment.command()
@click.argument("agent", shell_complete=completion.agents)
@LAKE
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="The port; 0: a free one.")
@click.option(
    "--public-url", default="", metavar="URL", help="The address that participants open, if a proxy serves it."
)
@click.option("--links", "n_links", type=click.IntRange(0, 100_000), default=0, metavar="N",
              help="Also print N links that each one participant can use.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Walk through the task as a participant, and print what is recorded.")
def serve(agent: str, lake: Path, host: str, port: int, public_url: str, n_links: int, dry_run: bool) -> None:
    """Serve the trials of AGENT to people, and publish their answers from time to time.

    Prints the link for participants. Ends with Ctrl-C; participants can continue when it runs again.
    """
    from affectlake.flows.experiment import build_offer
    from affectlake.lake import repository
    from affectlake.pipelines.params.study import load

    root = repository.find(lake)
    build_offer(root, agent, log)
    params = load(root)
    if dry_run:
        from affectlake.pipelines.experiment.dry_run import walk_through

        for line in walk_through(root, params, agent):
            click.echo(line)
        return
    from affectlake.pipelines.experiment.beside import unpublished
    from affectlake.pipelines.experiment.serving import serve_experiment
    from affectlake.process.own_requests import LOOPBACK

    def ready(address: str, links: list[str]) -> None:
        click.echo(address)
        for link in links:
            click.echo(link)
        if host not in LOOPBACK:
            log(f"warning: {host} can be reached by other computers, and what is sent is not encrypted without a proxy")

    serve_experiment(root, params, agent, ready, log, host=host, port=port, public_url=public_url, n_links=n_links)
    n = unpublished(root, agent)
    if n:
        log(f"{n:,} answers are not published yet: `affectlake experiment publish {agent}`")


@experiment.command()
@click.argument("agent", shell_complete=completion.agents)
@LAKE
@JSON
def status(agent: str, lake: Path, as_json: bool) -> None:
    """Print how the experiment of AGENT stands: participants, answers, catch trials, and the rest of the plan."""
    from affectlake.lake import repository
    from affectlake.pipelines.experiment.status import status_of
    from affectlake.pipelines.params.study import load

    root = repository.find(lake)
    found = status_of(root, load(root), agent)
    click.echo(json.dumps(found._asdict(), indent=2) if as_json else _format_status(found))


def _format_status(one: ExperimentStatus) -> str:
    answered = one.n_wanted - one.n_left
    share = f" ({answered / one.n_wanted:.1%})" if one.n_wanted else ""
    lines = [f"{one.agent}: {answered:,} of {one.n_wanted:,} answers{share}; {one.n_left:,} are left"]
    if one.note:
        lines = [f"{one.agent}: the plan is not known: {one.note}"]
    gone = f"{one.n_dropped:,} dropped out, {one.n_no_consent:,} without consent, {one.n_withdrawn:,} withdrew"
    lines.append(
        f"participants       {one.n_participants:,}: {one.n_complete:,} complete, {one.n_running:,} running, {gone}"
    )
    taken = "" if one.median_response_ms is None else f"; median {one.median_response_ms / 1000:.1f} s"
    lines.append(f"answers            {one.n_answers:,}, {one.per_minute:.1f} a minute{taken}")
    lines.append(f"catch trials       {one.n_catch:,} answered, {one.n_catch_failed:,} failed")
    if one.unanswered:
        why = ", ".join(f"{n:,} {reason}" for reason, n in one.unanswered.items())
        lines.append(f"without an answer  {sum(one.unanswered.values()):,}: {why}")
    if one.n_unaskable:
        lines.append(f"cannot be shown    {one.n_unaskable:,} trials")
    if one.n_unpublished:
        lines.append(
            f"not yet published  {one.n_unpublished:,}; `affectlake experiment publish {one.agent}` publishes them"
        )
    return "\n    ".join(lines)


@experiment.command()
@click.argument("agent", shell_complete=completion.agents)
@LAKE
@click.option("--direct", is_flag=True, help="Without a Prefect flow.")
@JSON
def publish(agent: str, lake: Path, direct: bool, as_json: bool) -> None:
    """Publish what came in for AGENT as a version; answers that are published already are not added again."""
    from affectlake.flows.experiment import run_publishing
    from affectlake.lake import repository
    from affectlake.pipelines.experiment.publishing import publish_received
    from affectlake.pipelines.params.study import load

    root = repository.find(lake)
    done = publish_received(root, load(root), agent, log) if direct else run_publishing(root, agent, log)
    version = done.version.name if done.version else None
    if as_json:
        click.echo(json.dumps(done._asdict() | {"version": version}, indent=2))
        return
    click.echo(done)
    if version is not None:
        log(f"published {version}; `affectlake run` converts the answers to choices")


@experiment.command()
@click.argument("agent", shell_complete=completion.agents)
@click.argument("folder", type=click.Path(path_type=Path))
@LAKE
@click.option("--lists", "n_lists", type=click.IntRange(1, 10_000), default=100, show_default=True, metavar="N",
              help="Lists of trials, one for each participant.")  # fmt: skip
@click.option("--post-url", default="", metavar="URL", help="Where the page sends a participant's answers at the end.")
@click.option("--jatos", is_flag=True, help="For JATOS, which takes the answers.")
def export(agent: str, folder: Path, lake: Path, n_lists: int, post_url: str, jatos: bool) -> None:
    """Write the task of AGENT as a folder of files for another host; `affectlake import` reads what comes back."""
    from affectlake.flows.experiment import build_offer
    from affectlake.lake import repository
    from affectlake.pipelines.experiment.serving import export_site
    from affectlake.pipelines.params.study import load

    root = repository.find(lake)
    build_offer(root, agent, log)
    n = export_site(root, load(root), agent, folder, n_lists, log, post_url=post_url, jatos=jatos)
    if n < n_lists:
        log(f"the plan has trials for {n:,} lists")
    click.echo(f"{folder}: {n:,} lists")


COMMANDS: tuple[click.Command, ...] = (experiment,)

"""Serve the trials of an agent to people: the page, the session store, and what happens beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from affectlake.errors import SourceError
from affectlake.experiment.assets import Assets, asset
from affectlake.experiment.page import page_files, render_page, texts_of
from affectlake.experiment.server import make_links, serve
from affectlake.experiment.static_site import write_site
from affectlake.judge.agents import ExperimentAgent
from affectlake.pipelines.collection.publishing import Log
from affectlake.pipelines.experiment.beside import Beside
from affectlake.pipelines.experiment.entry import experiment_agent, store_path
from affectlake.pipelines.experiment.keys import participant_key
from affectlake.pipelines.experiment.offering import Offered, answers_here, offer_of
from affectlake.pipelines.params.study import Params

Ready = Callable[[str, list[str]], None]


def assets_of(lake: Path, agent: ExperimentAgent) -> Assets:
    """Return the page of an agent, with the texts and the consent of the lake.

    Raises
    ------
    SourceError
        If a file that the entry names does not exist or cannot be read.
    UsageError
        If a text is missing or unknown.
    """
    texts = texts_in(lake, agent)
    page = render_page(texts, agent.panel or "")
    return Assets(page.encode(), {name: asset(name, path.read_bytes()) for name, path in page_files().items()}, texts)


def texts_in(lake: Path, agent: ExperimentAgent) -> dict[str, dict[str, str]]:
    """Return what the page of an agent says, by language and key; raise as :func:`assets_of` does."""
    for key, name in (("texts", agent.texts), ("consent", agent.consent)):
        if name is not None and not (lake / name).exists():
            raise SourceError(
                f"agents.{agent.name}.{key} is a file that does not exist",
                found=str(lake / name),
                todo="write it, or remove the key for the built-in text",
            )
    folder, consent = (lake / name if name else None for name in (agent.texts, agent.consent))
    return texts_of(agent.languages, folder, consent)


def serve_experiment(
    lake: Path,
    params: Params,
    name: str,
    ready: Ready,
    log: Log,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    public_url: str = "",
    n_links: int = 0,
) -> None:
    """Serve the trials of an agent until the process is interrupted.

    Parameters
    ----------
    lake : Path
        Root of the lake, whose stimuli and trials must have been made.
    params : Params
        Its parameters.
    name : str
        Name of an agent of kind experiment.
    ready : callable
        Takes the address for participants and the one-time links, once the server listens.
    log : callable
        Takes one line of progress.
    host, port, public_url
        As for :func:`affectlake.experiment.server.serve`.
    n_links : int
        Number of links to make that each one participant can use.

    Raises
    ------
    AffectlakeError
        As :func:`affectlake.pipelines.experiment.offering.offer_of` and :func:`affectlake.experiment.server.serve`.
    """
    agent = experiment_agent(params, name)
    offered = offer_of(lake, params, name)
    for line in lines_of(offered):
        log(line)
    store, beside = store_path(lake, name), Beside(lake, params, agent, log)

    def listening(address: str) -> None:
        base = address.partition("?")[0]
        ready(address, make_links(store, base, n_links) if n_links else [])

    try:
        serve(
            store,
            offered.offer,
            offered.contents,
            offered.settings,
            assets_of(lake, agent),
            participant_key(lake, name),
            ready=listening,
            host=host,
            port=port,
            public_url=public_url,
            renew=beside.renew,
        )
    finally:
        beside.stop()


def lines_of(offered: Offered) -> list[str]:
    """Return what is offered, in words."""
    offer = offered.offer
    wanted, answered = int(offer.wanted.sum(dtype=int)), int(offer.answered.sum(dtype=int))
    lines = [
        f"{offered.settings.agent}: {len(offer.trials):,} trials, {wanted:,} answers wanted, {answered:,} published "
        f"from elsewhere; {len(offer.practice):,} practice and {len(offer.catch):,} catch trials"
    ]
    if offered.n_unaskable:
        lines.append(f"{offered.n_unaskable:,} of {offered.n_planned:,} trials cannot be shown")
    return lines + [f"{n:,} stimuli cannot be shown: {why}" for why, n in offered.reasons.items()]


def export_site(
    lake: Path,
    params: Params,
    name: str,
    folder: Path,
    n_lists: int,
    log: Log,
    *,
    post_url: str = "",
    jatos: bool = False,
) -> int:
    """Write the task of an agent as files for another host, and return the number of lists with trials.

    Trials that are answered, in versions or in the session store, are left out.

    Parameters
    ----------
    lake, params, name, log
        As for :func:`serve_experiment`.
    folder, n_lists, post_url, jatos
        As for :func:`affectlake.experiment.static_site.write_site`.

    Raises
    ------
    AffectlakeError
        As :func:`affectlake.pipelines.experiment.offering.offer_of` and
        :func:`affectlake.experiment.static_site.write_site`.
    """
    agent = experiment_agent(params, name)
    found = offer_of(lake, params, name)
    for line in lines_of(found):
        log(line)
    left = np.maximum(0, found.offer.wanted - found.offer.answered - answers_here(lake, agent, found))
    is_open = left > 0
    offer = replace(
        found.offer,
        trials=found.offer.trials[is_open],
        wanted=left[is_open].astype(np.int16),
        answered=np.zeros(int(is_open.sum()), dtype=np.int16),
    )
    texts = texts_in(lake, agent)
    return write_site(
        offer, found.contents, found.settings, folder, n_lists, texts=texts, post_url=post_url, jatos=jatos
    )

"""The figures of a version: Matplotlib figures to show in a notebook, restyle, compose and save.

Every figure of the report is a function here; :func:`names` lists them.

Examples
--------
>>> import affectlake
>>> lake = affectlake.open()
>>> figure = affectlake.figures.learning_curves(lake, "human-category")
>>> figure.axes[0].set_yscale("log")
>>> figure.savefig("learning.pdf")
>>> figure.data.columns[:3]
['agent', 'seed', 'epoch']
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectlake.errors import UsageError, nearest
from affectlake.lake.open import Lake
from affectlake.lake.store.root import find
from affectlake.lake.store.versions import Version, resolve

if TYPE_CHECKING:
    import polars as pl

    from affectlake.report.figures.catalogue import Entry
    from affectlake.report.inputs import ReportInputs


def names() -> list[str]:
    """Return the names of the figures, in the order of the report.

    Examples
    --------
    >>> "heatmap" in affectlake.figures.names()
    True
    """
    return list(_entries())


def draw(
    name: str,
    lake: Lake | Path | str,
    agent: str = "",
    at: str = "",
    *,
    axes: Any = None,
    width_mm: float = 0.0,
    **choices: str,
) -> Any:
    """Draw a figure by its name.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    lake : Lake, path or str
        A lake, or a folder in it.
    agent : str
        The agent; empty for a figure of all agents.
    at : str, default=""
        The version; empty: the latest.
    axes : matplotlib.axes.Axes or sequence of them, optional
        Axes to draw on, one for each panel; by default, a new figure is created.
    width_mm : float
        Width of a new figure for print, with text of 6 points or more; 0: the figure's own width.
    **choices : str
        Further options of the figure; see the function of its name.

    Returns
    -------
    matplotlib.figure.Figure
        If it is a new figure, it has the attributes `caption` and `data`. Cards and tables are returned as an object
        that a notebook shows as HTML.

    Raises
    ------
    FigureError
        If the version does not have the data of the figure.
    UsageError
        If there is no such figure, agent or choice, or the figure cannot be read in this width.

    Examples
    --------
    >>> figure = affectlake.figures.draw("learning_curves", lake, "human-category")
    """
    known = _entries()
    if name not in known:
        raise UsageError(f"there is no figure {name!r}", allowed=", ".join(known), todo=nearest(name, known))
    entry = known[name]
    root = lake.root if isinstance(lake, Lake) else find(Path(lake))
    version = resolve(root, at)
    inputs = _inputs(root, version, brain=entry.brain, pictures=entry.html)
    about = _about(entry, inputs, agent)
    if not width_mm:
        return entry.made(inputs, about, axes, **choices)
    if entry.html or axes is not None:
        raise UsageError(f"{name} has no width", found="cards, a table or axes of your own", todo="leave the width out")
    from affectlake.report.figures.print_size import printed

    return printed(entry, inputs, about, width_mm, **choices)


def data(name: str, lake: Lake | Path | str, agent: str = "", at: str = "", **choices: str) -> pl.DataFrame:
    """Return the data of a figure, one row per mark.

    Parameters
    ----------
    name, lake, agent, at, **choices
        As in :func:`draw`.

    Examples
    --------
    >>> affectlake.figures.data("learning_curves", lake, "human-category")["epoch"].min()
    0
    """
    rows: pl.DataFrame = draw(name, lake, agent, at, **choices).data  # type: ignore[arg-type]
    return rows


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith("_") or name not in _entries():
        raise AttributeError(
            f"module 'affectlake.figures' has no attribute {name!r} {nearest(name, _entries())}".rstrip()
        )
    made = _function(_entries()[name])
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    return ["data", "draw", "names", *names()]


def _entries() -> dict[str, Entry]:
    from affectlake.report.figures.catalogue import FIGURES  # Matplotlib is loaded only to draw

    return {one.name: one for one in FIGURES}


@lru_cache(maxsize=4)
def _inputs(root: Path, version: Version, *, brain: bool, pictures: bool) -> ReportInputs:
    """Return a version's tables. They are cached for further figures, because a version does not change."""
    from affectlake.pipelines.outputs.report import gather

    return gather(root, version, brain=brain, pictures=pictures, for_myself=True)


def _about(entry: Entry, inputs: ReportInputs, agent: str) -> Any:
    from affectlake.report.agent_summary import agent_facts, agents

    known = agents(inputs)
    if entry.section != "agent" and not agent:
        return [agent_facts(inputs, one) for one in known]
    if entry.section != "agent":
        raise UsageError(f"{entry.name} is a figure of all agents", found=f"agent {agent!r}", todo="leave it out")
    if agent not in known:
        raise UsageError(
            f"{inputs.version.name} has no agent {agent!r}", allowed=", ".join(known), todo=nearest(agent, known)
        )
    return agent_facts(inputs, agent)


def _function(entry: Entry) -> Callable[..., Any]:
    """Return the function that draws one figure, with its signature and docstring."""
    drawn = inspect.signature(entry.draw).parameters
    plain, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    names = ["lake", "agent"] if entry.section == "agent" else ["lake"]
    accepted = [inspect.Parameter(one, plain) for one in names] + [inspect.Parameter("at", plain, default="")]
    accepted += [] if entry.html else [inspect.Parameter("axes", keyword, default=None)]
    accepted += [inspect.Parameter(key, keyword, default=drawn[key].default) for key in entry.choices]
    signature = inspect.Signature(accepted)

    def figure(*args: Any, **options: Any) -> Any:
        given = signature.bind(*args, **options)
        return draw(entry.name, **given.arguments)

    figure.__name__ = figure.__qualname__ = entry.name
    figure.__signature__ = signature  # type: ignore[attr-defined]
    figure.__doc__ = _help(entry)
    return figure


_AGENT = "agent : str\n    An agent of that version.\n"
_AXES = """axes : matplotlib.axes.Axes or sequence of them, optional
    Axes to draw on, one for each panel; by default, a new figure is created.
"""
_HELP = """{what}

Parameters
----------
lake : Lake, path or str
    A lake, or a folder in it.
{parameters}
Returns
-------
{returned}

Raises
------
FigureError
    If the version does not have the data of the figure.

Examples
--------
>>> affectlake.figures.{call}
"""


def _help(entry: Entry) -> str:
    at = "at : str\n    The version; empty: the latest.\n"
    choices = "".join(
        f"{key} : str\n    {', '.join(f'`{value}` ({meaning})' for value, meaning in values.items())}.\n"
        for key, values in entry.choices.items()
    )
    own = entry.section == "agent"
    return _HELP.format(
        what=inspect.getdoc(entry.draw),
        parameters="".join([_AGENT if own else "", at, "" if entry.html else _AXES, choices]),
        returned="HtmlFigure\n    Shown as HTML by a notebook; with `caption` and `data`."
        if entry.html
        else "matplotlib.figure.Figure\n    If it is a new figure, it has the attributes `caption` and `data`.",
        call=f'{entry.name}(lake, "human-category")' if own else f"{entry.name}(lake)",
    )

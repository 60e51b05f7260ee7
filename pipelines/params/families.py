"""Families of ratings in ``params.yaml``: those that sources define, and those that agents use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from affectlake.errors import nearest
from affectlake.judge.agents import ALL_FAMILIES
from affectlake.mistakes import Mistake
from affectlake.pipelines.params.text import value_at

_PUBLISHED = ("category", "dimension")


def wrong_families(raw: object) -> Iterator[Mistake]:
    """Yield the mistakes in families of ratings that no single value shows.

    Parameters
    ----------
    raw : object
        Parsed content of the file; unexpected values are ignored.
    """
    known: dict[str, Mapping[str, Any]] = {name: {} for name in _PUBLISHED}
    if value_at(raw, "sources.kind") == "tables":
        known = {}
        files = value_at(raw, "sources.ratings")
        for at, one in enumerate(files if isinstance(files, list) else ()):
            if isinstance(one, Mapping) and isinstance(one.get("family"), str):
                yield from _of_file(f"sources.ratings[{at}]", one, known)
                known.setdefault(one["family"], one)
        categories = [name for name, one in known.items() if one.get("are_categories") is True]
        if len(categories) > 1:
            yield Mistake(
                "sources.ratings",
                f"has several families of categories: {', '.join(categories)}",
                wanted="one family whose highest rating is the category of a stimulus",
                todo="set are_categories: true for one family",
            )
    yield from _of_agents(raw, known)
    easy = value_at(raw, "easy_trials.ratings")
    if (isinstance(easy, str) and easy not in (ALL_FAMILIES, *known)) or (not known and easy is not None):
        yield _unknown("easy_trials.ratings", str(easy), known)


def _of_file(path: str, one: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> Iterator[Mistake]:
    family, scale, neutral = one["family"], one.get("scale"), one.get("neutral")
    if family in (ALL_FAMILIES, one.get("id_column"), one.get("name_column"), one.get("score_column")):
        what = "stands for all families" if family == ALL_FAMILIES else "is a column of the file"
        yield Mistake(
            f"{path}.family", f"{family!r} {what}", todo="choose another name for this set of ratings, such as traits"
        )
    if isinstance(scale, list) and len(scale) == 2 and all(_is_number(end) for end in scale):
        low, high = scale
        if not low < high:
            yield Mistake(
                f"{path}.scale", f"is empty: {low:g} to {high:g}", wanted="the smallest, then the largest score"
            )
        elif _is_number(neutral) and not low <= neutral <= high:
            yield Mistake(
                f"{path}.neutral", f"{neutral:g} is outside the scale", wanted=f"a score from {low:g} to {high:g}"
            )
    for key, partner in (("name_column", "score_column"), ("score_column", "name_column")):
        if one.get(key) is not None and one.get(partner) is None:
            yield Mistake(
                f"{path}.{partner}", f"is missing beside {key}", todo="a file with a row for each rating needs both"
            )
    if one.get("name_column") is not None and one.get("columns") is not None:
        yield Mistake(f"{path}.columns", "has no effect: the ratings are named in name_column", todo="remove it")
    if family in known:
        for key in ("scale", "neutral", "are_categories"):
            if one.get(key) != known[family].get(key):
                yield Mistake(
                    f"{path}.{key}",
                    f"is not that of the other file of the family {family!r}",
                    wanted="one scale for each family",
                    todo="use another family, or the same values",
                )


def _of_agents(raw: object, known: Mapping[str, object]) -> Iterator[Mistake]:
    agents = value_at(raw, "agents")
    for name, entry in agents.items() if isinstance(agents, Mapping) else ():
        if not isinstance(entry, Mapping) or entry.get("kind") != "ratings":
            continue
        named, scaling = entry.get("ratings"), entry.get("scaling")
        wanted = [("ratings", one) for one in (named if isinstance(named, list) else [named]) if one != ALL_FAMILIES]
        wanted += [("scaling", one) for one in (scaling if isinstance(scaling, Mapping) else ())]
        for key, family in wanted:
            if isinstance(family, str) and family not in known:
                yield _unknown(f"agents.{name}.{key}", family, known)


def _unknown(path: str, family: str, known: Mapping[str, object]) -> Mistake:
    all_ = (ALL_FAMILIES,) if path.endswith("ratings") else ()
    return Mistake(
        path,
        f"there are no {family!r} ratings",
        allowed=", ".join((*known, *all_)) if known else "none: sources has no ratings",
        todo=nearest(family, known),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

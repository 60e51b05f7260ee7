"""The protocol files of a lake: ``protocols/NAME.yaml``.

Their form is that of :class:`affectlake.judge.protocols.protocol.Protocol`. Only the files that agents use are read by
a run, so that a file that is being written does not stop it; the names of all files are checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import AffectlakeError, UsageError, nearest
from affectlake.judge.protocols.builtin import BUILT_IN, FAMILIES, text_of
from affectlake.judge.protocols.protocol import Protocol
from affectlake.judge.responses.parsing import parse
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole
from affectlake.mistakes import Mistake, refusal
from affectlake.pipelines.params.names import wrong_protocol_names
from affectlake.pipelines.params.text import read_yaml, value_at
from affectlake.validation import examine

SUFFIX = ".yaml"


class ProtocolFile(NamedTuple):
    """A protocol and the file that defines it."""

    protocol: Protocol
    content: bytes


def path_of(name: str) -> Path:
    """Return the path of a protocol's file, relative to the lake."""
    return layout.PROTOCOLS / f"{name}{SUFFIX}"


def own_names(lake: Path) -> list[str]:
    """Return the names of the lake's protocol files, sorted.

    Raises
    ------
    UsageError
        If a file has a name that is not valid, is that of a built-in protocol, or differs from another one's only in
        the case of letters, or if it ends in ``.yml``.
    """
    folder = lake / layout.PROTOCOLS
    found = sorted(path.name for path in folder.iterdir() if _is_visible(path)) if folder.is_dir() else []
    names = [name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX)]
    mistakes = list(wrong_protocol_names(str(layout.PROTOCOLS), names))
    shadowing = "has the name of a built-in protocol"
    mistakes += [
        Mistake(str(path_of(name)), shadowing, todo="give the file another name") for name in names if name in FAMILIES
    ]
    mistakes += [
        Mistake(
            f"{layout.PROTOCOLS}/{name}", f"does not end in {SUFFIX}", todo=f"rename it to {Path(name).stem}{SUFFIX}"
        )
        for name in found
        if name.endswith(".yml")
    ]
    if mistakes:
        raise refusal("", mistakes)
    return names


def _is_visible(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def own_protocols(lake: Path, names: Sequence[str], raw: object) -> dict[str, ProtocolFile]:
    """Return the protocols of the lake that the agents of a ``params.yaml`` name.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    names : sequence of str
        Names of its protocol files.
    raw : object
        Parsed content of ``params.yaml``; unexpected values are ignored.

    Raises
    ------
    UsageError
        If one of these files is not a valid protocol.
    """
    named = set(_named(raw))
    return {name: read_protocol(lake / path_of(name)) for name in names if name in named}


def _named(raw: object) -> Iterable[str]:
    agents = value_at(raw, "agents")
    for entry in agents.values() if isinstance(agents, Mapping) else ():
        name = value_at(entry, "protocol")
        if isinstance(name, str):
            yield name


def read_protocol(path: Path) -> ProtocolFile:
    """Read a protocol file, and check that its examples are read as it says.

    Raises
    ------
    UsageError
        If the file does not exist or is not a valid protocol; one message contains all mistakes.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the protocol {path} cannot be read", found=str(error)) from error
    return ProtocolFile(parse_protocol(content, path.name.removesuffix(SUFFIX), str(path)), content)


def parse_protocol(content: bytes, name: str, place: str) -> Protocol:
    """Return the protocol `name` from the content of its file; `place` is the file's name in messages.

    Raises
    ------
    UsageError
        As :func:`read_protocol`.
    """
    try:
        raw = read_yaml(content.decode(), place)
    except UnicodeDecodeError as error:
        raise UsageError(f"{place} is not UTF-8 text", found=str(error), todo="save it as UTF-8") from error
    found, mistakes = examine(Protocol, raw)
    if not mistakes:
        mistakes = _wrong_examples(found)
    if mistakes:
        raise refusal(place, mistakes)
    named: Protocol = found.named(name)
    return named


def _wrong_examples(found: Protocol) -> list[Mistake]:
    """Return the examples that are not read as the file says; without examples, that they are missing."""
    if not found.example and not found.asks_one_token:
        wanted = 'an answer and its position, such as {"Video 2 is noticeably different": 2}'
        return [Mistake("example", "is missing", wanted=wanted, todo="the rule in `answer` is checked with it")]
    wrong = []
    for text, position in found.example.items():
        read = parse(text, found)
        if read.position != position:
            why = f"the position {read.position}" if read.position else f"no position ({read.reason})"
            wrong.append(
                Mistake(
                    "example",
                    f": the rule in `answer` reads another position from {text!r}",
                    wanted="no position" if position is None else f"the position {position}",
                    found=why,
                    todo="correct the pattern, the labels or the example",
                )
            )
    return wrong


def all_own(lake: Path) -> list[tuple[str, Protocol | AffectlakeError]]:
    """Return every protocol file of the lake by name: the protocol, or the error in it."""
    found: list[tuple[str, Protocol | AffectlakeError]] = []
    for name in own_names(lake):
        try:
            found.append((name, read_protocol(lake / path_of(name)).protocol))
        except UsageError as error:
            found.append((name, error))
    return found


def write_copy(lake: Path, source: str, name: str) -> Path:
    """Write the file of a new protocol with the content of another; return its path within the lake.

    Raises
    ------
    UsageError
        If there is no protocol `source`, `name` is not a valid name, or its file exists.
    """
    own = own_names(lake)
    if source in BUILT_IN:
        lines = text_of(source).splitlines(keepends=True)  # without the origin of the text, which will change
        text = f"# from {source}\n{''.join(line for line in lines if not line.startswith(('#', 'version:')))}"
    elif source in own:
        text = (lake / path_of(source)).read_text(encoding="utf-8")
    else:
        known = [*BUILT_IN, *own]
        raise UsageError(f"there is no protocol {source!r}", allowed=", ".join(known), todo=nearest(source, known))
    if name in FAMILIES:
        raise UsageError(f"{name} is the name of a built-in protocol", todo="choose another name")
    mistakes = list(wrong_protocol_names("NAME", [name]))
    if mistakes:
        raise refusal("", mistakes)
    path = path_of(name)
    if (lake / path).exists():
        raise UsageError(f"{path} exists", todo="choose another name, or edit the file")
    (lake / layout.PROTOCOLS).mkdir(exist_ok=True)
    write_whole(lake / path, text.encode())
    return path

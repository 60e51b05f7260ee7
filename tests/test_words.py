"""Plain words: no message, docstring, comment or page has one of the abolished patterns, and messages have one voice.

``python -m tests.test_words`` counts the matches by folder, ``python -m tests.test_words PATH …`` lists those of paths.
"""

from __future__ import annotations

import ast
import re
import sys
import tokenize
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from affectlake import errors, generated
from tests.support.lakes import ROOT


class Pattern(NamedTuple):
    """An abolished pattern (case is ignored, white space is one space), what to write in its place, and an example."""

    regex: str
    instead: str
    example: str


_OF_THINGS = r"(?:in|into|of|on|to|by|at|under|from|with)"

PATTERNS = (
    Pattern(
        r"(?<!there )\b(?:is|are|was|were) no (?!(?:longer|more|less|fewer|later|better|larger)\b)[\w{`'\"]",
        "'X is not a Y'",
        "a server's URL that carries a password is no URL",
    ),
    Pattern(
        r"(?<!there )\b(?:is|are|was|were) (?-i:none)\b(?! of)",
        "'is not one', 'is missing'",
        "a URL that is none",
    ),
    Pattern(
        rf"\b(?<!second ){_OF_THINGS} (?-i:none)\b(?! of)",
        "'not in any', 'without'",
        "work that is in none",
    ),
    Pattern(
        r"\b(?:names|knows|says|tells|asks) no(?:ne)?\b",
        "'does not name a', 'has no'",
        "a mark that names no version",
    ),
    Pattern(
        rf"\b{_OF_THINGS} no (?:version|table|stage|step|agent|slot|branch|commit|file|remote|partition|shard)\b",
        "'not in any', 'unpublished', 'without a'",
        "answers that are in no version yet",
    ),
    Pattern(r"\bnames no one\b|\bno one (?:of|webhook)\b", "'needs exactly one of'", "it names no one webhook"),
    Pattern(r"\bnobody\b", "'no process', 'no user', or a passive sentence", "an edit that nobody has run"),
    Pattern(
        r"\b(?:was|were|is|are|be|been|being) told\b(?! apart| to\b)|\btold of\b|\btells? of\b",
        "'reported', 'notified', 'printed', 'listed'",
        "the webhook was told of the failure",
    ),
    Pattern(
        r"\bwhat (?:is|are|was|were) left\b(?! out\b| over\b)|\bwhat there is\b",
        "'the remaining …', 'the rest'",
        "the same command goes on with what is left",
    ),
    Pattern(
        r"\bstands? (?:already|there|here|aside|beside|behind|before|in(?! for\b| the way\b)|on|at|under|where)\b"
        r"|\b(?:stood|standing)\b(?! for\b)|\bstands[,;]",
        "'is in', 'exists', 'already published', 'is kept'",
        "rows that stand already",
    ),
    Pattern(r"\bforet(?:ell|ells|old|elling)\b", "'predict'", "what the index of the answer foretells"),
    Pattern(r"\bsome \d[\d,.]*(?!-?d\b)(?: |\b)", "'about N'", "it takes some 260 MB"),
    Pattern(
        r"\b(?:ask|asked|of|for|to|at|that|is|are|after|in) so many\b(?!(?: [\w-]+){0,5} that\b)",
        "'N', 'this many', 'the number of'",
        "a listing of so many parts",
    ),
    Pattern(
        r"\bput(?:s|ting)? (?:\w+ ){0,2}in(?:to)? place\b(?! of)",
        "'place', 'rename into place'",
        "the parts are put in place by rename",
    ),
    Pattern(r"(?<!time )\btaken for\b(?! granted)", "'treated as'", "a failure is taken for an answer"),
    Pattern(
        r"\b(?:the|a|an|some) (?:user|person|caller)'s own\b|\bof the user's\b",
        "'user-defined', 'the user's'",
        "stages of the user's own",
    ),
    Pattern(
        r"(?<!user )(?<!reader )(?<!person )\bwants\b(?!=)",
        "'needs', 'requires', 'expects'",
        "a sparse table wants a dense one",
    ),
    Pattern(
        r"\b(?:anew|afresh|hitherto|whither|thereof|whereof|whence|thence|wherein|therein|twofold)\b",
        "'again', 'from it', 'where'",
        "the file is written anew",
    ),
    Pattern(
        r"\bkeeps? (?:quiet|silent)\b|\bsays? (?:nothing|so|of|that it lives)\b|\bsaid of\b|\bspeaks? (?:of|to)\b"
        r"|\bknows? (?:nothing|of)\b|\bsaid in words\b",
        "'reports', 'does not set', 'is empty', 'has no'",
        "nothing where the file says nothing",
    ),
    Pattern(r"(?<!`)\bcanar(?:y|ies)\b", "'prompt injection'", "Ask AGENT trials with canaries"),
    Pattern(r"\bmend(?:s|ed|ing|able)?\b", "'repair', 'correct'", "mend it with `affectlake fsck --repair`"),
    Pattern(
        r"\b(?:an|no|whole|full) account of\b|\bwith an account\b",
        "'report', 'message'",
        "they are in quarantine with an account of what broke",
    ),
    Pattern(r"\bbut for\b(?! the fact)", "'except for'", "it does all, but for the move of the branch"),
    Pattern(r"\b(?:makes?|made|making) (?:sure|certain) of\b", "'verify'", "its objects are made sure of first"),
    Pattern(r"\bseen to (?:be|lie|use|have|hold)\b", "'after checking that'", "the path, seen to lie in the lake"),
    Pattern(r"\bcut off\b", "'interrupted', 'killed', 'truncated'", "a checkout was cut off"),
    Pattern(r"\b(?:goes|go|went|going) on(?! to \w)\b", "'continue', 'is in progress'", "a rebase goes on in it"),
    Pattern(r"\ball the same\b|\bby the way\b", "'too', 'also'", "its hashes count all the same"),
    Pattern(
        r"\b(?:asked|answered|had|chosen|made) otherwise\b",
        "'with other settings', 'differently'",
        "answers that were asked otherwise",
    ),
    Pattern(r"\bas (?:it|they) stands?\b|\bread where (?:it|they) lies?\b", "'as it is'", "read where it lies"),
)  # fmt: skip

CORRECT = (
    "there is no remote", "there are none", "is no longer supported", "is no more than 3", "there is no such table",
    "what was left out", "the user wants to stop", "a correlation of so few pairs",
    "the time taken for a fit", "the server is told to stop",
    "second to none", "it has no columns", "no version was pushed", "without a version",
    "'~' stands for the home folder", "it stands in for a server", "files that stand in the way", "a standard",
    "some 2-D arrays", "so many rows that memory is exhausted", "as many as possible", "in place of a file",
    "sorted in place", "taken for granted", "a file of its own", "the user's home folder", "hence", "so few",
    "whether x is None", "none of them", "no account is needed", "takes account of noise", "recommended", "amendment",
    "the function returns nothing", "as follows", "make sure that it is closed", "a cut-off frequency of 0.01 Hz",
    "goes on to the next", "she was told apart", "nothing but exceptions", "all but the last",
    "`canaries` is now `injections`",
)  # fmt: skip

CHECKED = ("CHANGELOG.md", "CONTRIBUTING.md", "README.md", "docs", "flows", "pipelines", "schemas", "src", "storage")
"""Files and folders that are checked."""

NAMES = {
    *("Arrow", "Dask", "Git", "Markdown", "Numba", "Parquet", "Polars", "Prefect", "Pydantic", "Python", "Torch"),
    *("Ctrl-C", "Great", "Linux", "Louvain", "Nesterov", "Windows"),
}
"""Names with which a message may begin; words with a capital or a digit after the first letter may as well."""

PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "storage/README.md")

LINKS = ("flows", "pipelines", "schemas")  # in src/affectlake, to the folders of these names at the top


class Text:
    """A text without line breaks, and the line of each of its words. A blank line is a word of its own."""

    def __init__(self, path: Path, lines: Iterable[tuple[int, str]]) -> None:
        words = [(word, number) for number, line in lines for word in line.split() or ["¶"]]
        self.path = path
        self.words = " ".join(word for word, _ in words)
        ends = [match.start() for match in re.finditer(" ", self.words)]
        self._starts, self._numbers = [0, *(end + 1 for end in ends)], [number for _, number in words]

    def line(self, offset: int) -> int:
        """Return the number of the line in which the word at `offset` is."""
        return self._numbers[bisect_right(self._starts, offset) - 1]


def literal(node: ast.AST) -> str | None:
    """Return the value of a string or f-string, with ``{}`` for what is filled in; None if `node` is neither."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(one.value if isinstance(one, ast.Constant) else "{}" for one in node.values)  # type: ignore[misc]
    return None


def strings(node: ast.AST, path: Path) -> Iterator[Text]:
    """Yield every string of more than one word below `node`."""
    value = literal(node)
    if value is not None and " " in value.strip():
        first, last = node.lineno, node.end_lineno or node.lineno  # type: ignore[attr-defined]
        yield Text(path, [(min(first + i, last), line) for i, line in enumerate(value.split("\n"))])
    parts = node.values if isinstance(node, ast.JoinedStr) else ast.iter_child_nodes(node)
    for child in parts:
        if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):
            yield from strings(child.value if isinstance(child, ast.FormattedValue) else child, path)


def comments(path: Path) -> Iterator[Text]:
    """Yield every comment; those of successive lines as one."""
    with path.open("rb") as source:
        found = [token for token in tokenize.tokenize(source.readline) if token.type == tokenize.COMMENT]
    block: list[tuple[int, str]] = []
    for before, token in pairwise([None, *found]):
        assert token is not None
        goes_with = before and token.start == (before.start[0] + 1, before.start[1])
        if block and not goes_with:
            yield Text(path, block)
            block = []
        block.append((token.start[0], token.string.lstrip("#!: ")))
    if block:
        yield Text(path, block)


_CODE_OF_TEMPLATES = re.compile(r"\{[{%].*?[%}]\}")


def texts(path: Path) -> Iterator[Text]:
    """Yield the texts of a file: strings and comments of Python code; lines of other files, without template code."""
    if path.suffix != ".py":
        text = path.read_text(encoding="utf-8")
        lines = (_CODE_OF_TEMPLATES.sub("", text) if path.suffix == ".j2" else text).splitlines()
        yield Text(path, enumerate(lines, 1))
        return
    yield from strings(ast.parse(path.read_bytes()), path)
    yield from comments(path)


def files() -> list[Path]:
    """Return the files whose words are checked, each once; generated pages are checked where their text is written."""
    code = (ROOT / "src", *(ROOT / name for name in LINKS))
    links = tuple(ROOT / "src" / "affectlake" / name for name in LINKS)
    found = [path for folder in code for path in folder.rglob("*.py") if not path.is_relative_to(links[0])]
    found = [path for path in found if not any(path.is_relative_to(link) for link in links)]
    templates = (ROOT / "src" / "affectlake" / "report" / "templates").iterdir()
    pages = [path for path in (ROOT / "docs").rglob("*.md") if str(path.relative_to(ROOT)) not in generated.FILES]
    return sorted([*found, *(ROOT / "schemas").rglob("*.yaml"), *templates, *pages, *(ROOT / name for name in PAGES)])


class Match(NamedTuple):
    """An abolished pattern in a text."""

    path: Path
    line: int
    words: str
    pattern: Pattern

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.words!r}: write {self.pattern.instead}"


_COMPILED = [(pattern, re.compile(pattern.regex, re.IGNORECASE)) for pattern in PATTERNS]


def matches(text: Text) -> Iterator[Match]:
    """Yield the abolished patterns in a text."""
    for pattern, compiled in _COMPILED:
        for found in compiled.finditer(text.words):
            start, end = max(found.start() - 25, 0), found.end() + 25
            yield Match(text.path, text.line(found.start()), text.words[start:end], pattern)


def is_in(path: Path, places: Iterable[str]) -> bool:
    """Return whether a file is one of `places`, or in one of them."""
    return any(path.is_relative_to(ROOT / place) for place in places)


_ERRORS = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.AffectlakeError)
}


def _ends(node: ast.AST, *, first: bool) -> Iterator[str]:
    """Yield the strings with which the value of an expression can begin (or end, if not `first`)."""
    value = literal(node)
    if value is not None:
        yield value
    elif isinstance(node, ast.IfExp):
        yield from (*_ends(node.body, first=first), *_ends(node.orelse, first=first))
    elif isinstance(node, ast.BoolOp):
        for one in node.values:
            yield from _ends(one, first=first)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _ends(node.left if first else node.right, first=first)


def wrong_voice(path: Path) -> Iterator[str]:
    """Yield the parts of error messages that begin with a capital, have a full stop, or are two sentences."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name not in _ERRORS:
            continue
        for part in (*node.args[:1], *(keyword.value for keyword in node.keywords)):
            for start in _ends(part, first=True):
                word = re.match(r"[\w-]*", start.lstrip())
                if word and word[0][:1].isupper() and word[0][1:].islower() and word[0] not in NAMES:
                    yield f"{path}:{part.lineno}: {start[:60]!r} begins with a capital: write lower case"
                if re.search(r"[a-z)`'\"]\. [A-Z]", start):
                    yield f"{path}:{part.lineno}: {start[:60]!r} is two sentences: write one, with ';' or ':'"
            for end in _ends(part, first=False):
                if end.rstrip().endswith(".") and not end.rstrip().endswith((" .", "..", "etc.")):
                    yield f"{path}:{part.lineno}: {end[-60:]!r} ends with a full stop: leave it out"


@pytest.mark.parametrize("place", CHECKED)
def test_no_abolished_pattern_is_left(place: str) -> None:
    assert (ROOT / place).exists()
    found = [match for path in files() if is_in(path, [place]) for text in texts(path) for match in matches(text)]
    assert not found, "\n" + "\n".join(str(match._replace(path=match.path.relative_to(ROOT))) for match in found)


@pytest.mark.parametrize("place", CHECKED)
def test_messages_have_one_voice(place: str) -> None:
    paths = [path for path in files() if path.suffix == ".py" and is_in(path, [place])]
    found = [line for path in paths for line in wrong_voice(path)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("pattern", PATTERNS, ids=[pattern.example for pattern in PATTERNS])
def test_a_pattern_finds_its_example(pattern: Pattern) -> None:
    found = matches(Text(Path("x"), [(1, pattern.example)]))
    assert pattern in [match.pattern for match in found]


@pytest.mark.parametrize("words", CORRECT)
def test_correct_english_is_not_found(words: str) -> None:
    assert [str(match) for match in matches(Text(Path("x"), [(1, words)]))] == []


PLANTED = '''"""A module that is
no module."""
# a comment that is

# no block, but this one is
# no comment
error = LakeError(f"{error} is no {error}", wanted=f"{'a value that is no value'}")
other = UsageError("Broken", found="x. Y." if error else f"{error}.", todo="do this. Then that")
name, code = "wants", LakeError("DVC cannot read it", found="Git", todo="vN")
'''


def test_every_text_of_a_module_is_read(tmp_path: Path) -> None:
    path = tmp_path / "planted.py"
    path.write_text(PLANTED, encoding="utf-8")
    found = [(match.line, match.words) for text in texts(path) for match in matches(text)]
    assert [line for line, _ in found] == [1, 7, 7, 5], found  # the last is a comment
    voice = [(line.split(": ")[0].rpartition(":")[2], line.rpartition(": ")[2]) for line in wrong_voice(path)]
    assert voice == [
        ("8", "write lower case"),
        ("8", "write one, with ';' or ':'"),
        ("8", "leave it out"),
        ("8", "leave it out"),
        ("8", "write one, with ';' or ':'"),
    ]


def test_files_are_read_once() -> None:
    real = [path.resolve() for path in files()]
    assert len(real) == len(set(real))
    names = {str(path.relative_to(ROOT)) for path in files()}
    assert {"pipelines/step.py", "flows/build.py", "schemas/fields.yaml", "docs/glossary.md"} <= names
    assert {"README.md", "src/affectlake/report/templates/page.html.j2"} <= names
    assert "docs/cli.md" not in names


def _report(places: list[str]) -> None:
    found = [
        match for path in files() if not places or is_in(path, places) for t in texts(path) for match in matches(t)
    ]
    if places:
        print(*(match._replace(path=match.path.relative_to(ROOT)) for match in found), sep="\n")
        print(*(line for path in files() if path.suffix == ".py" and is_in(path, places) for line in wrong_voice(path)))
    folders = Counter("/".join(match.path.relative_to(ROOT).parent.parts[:3]) for match in found)
    width = max(map(len, folders), default=0)
    print(*(f"{folder:{width}}  {n:5,}" for folder, n in sorted(folders.items())), sep="\n")
    by_pattern = Counter(match.pattern.example for match in found)
    print(*(f"{n:5,}  {example}" for example, n in by_pattern.most_common()), sep="\n")
    print(f"{len(found):,} matches")


if __name__ == "__main__":
    _report(sys.argv[1:])

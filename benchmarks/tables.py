"""What a table of the paper's size costs: appending, publishing, querying, checking out, comparing 7.1 million choices.

    python benchmarks/tables.py [--stimuli 2180] [--rounds 3]

In one run beside the lake stand plain `dvc` commands on the same parts, delta-rs (`pip install deltalake`) and DataLad
(the command `datalad`, named by --datalad); a peer that is not installed is left out. All in a temporary folder.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import polars as pl
import yaml

from affectlake import seeds
from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.diff import diff
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.recovery import recover
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.store.versions import Manifest, resolve
from affectlake.lake.tables import appending, expectations, parts, rules
from affectlake.lake.tables.contracts import contract
from affectlake.triplet_sampling import sample_dyads

OUTPUT = Output("choices", "agent")
APPENDED = 100_000
N_VERSIONS = 10  # of a table whose history is asked
COLD_ROUNDS = 11  # a cold process takes parts of a second, so more of them than of what takes minutes
COUNT = "SELECT odd, count(*) AS n FROM {} GROUP BY odd ORDER BY n DESC LIMIT 3"
DUCKDB = f'import duckdb; print(duckdb.sql("{COUNT.format(chr(39) + "{}" + chr(39))}").fetchall())'
IDENTITY = (("git", "config", "user.email", "a@example.org"), ("git", "config", "user.name", "A"))


def choices(n_stimuli: int, seed: int) -> pl.DataFrame:
    """Return made-up choices on the main set of `n_stimuli`, one in a hundred differing by `seed`."""
    triplets = sample_dyads(n_stimuli, seeds.generator(0, "benchmark"))
    rng = seeds.generator(seed, "answers")
    odd = triplets[:, 2].copy()
    changed = rng.choice(len(odd), len(odd) // 100, replace=False)
    odd[changed] = triplets[changed, 0]
    frame = pl.DataFrame(triplets, schema=["i", "j", "k"], orient="row")
    return frame.with_columns(
        pl.lit("agent").alias("agent"),
        pl.lit("benchmark/1").alias("protocol"),
        pl.lit("main").alias("trial_set"),
        pl.lit(0, dtype=pl.Int16).alias("repeat"),
        pl.Series("odd", odd),
        pl.lit(value=False).alias("tied"),
    )


def seconds(run: Callable[[], object]) -> float:
    """Return how long `run` takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def put(lake: Path, frame: pl.DataFrame) -> float:
    """Make `frame` the lake's working choices; return how long writing took."""
    folder = lake / Output("choices", "agent").folder
    shutil.rmtree(folder, ignore_errors=True)
    return seconds(lambda: parts.write_parts(frame, contract("choices"), folder))


def command(*words: str | Path, cwd: Path) -> float:
    """Return how long a command takes in a process of its own."""
    return seconds(lambda: subprocess.run(words, cwd=cwd, check=True, capture_output=True))


def python(code: str, cwd: Path) -> float:
    """Return how long a Python program takes, its start included."""
    return command(sys.executable, "-c", code, cwd=cwd)


class Peer(ABC):
    """One way to keep a table that grows: 71 parts or so in a first version, one more in a second.

    Each method returns how long it took in seconds, or None where the peer has no such thing.
    """

    name: str

    def __init__(self, folder: Path, frame: pl.DataFrame) -> None:
        self.folder = folder / self.name.split()[0].lower()
        self.folder.mkdir()
        self.start(frame)

    @abstractmethod
    def start(self, frame: pl.DataFrame) -> None:
        """Make the first version."""

    @abstractmethod
    def append(self, frame: pl.DataFrame, number: int) -> float:
        """Add rows as part `number`, and make a version."""

    @abstractmethod
    def ask(self) -> float:
        """Answer :data:`COUNT` at the first version in a new process, from the state of the last."""

    def ask_first(self) -> float | None:
        """Answer it as :meth:`ask` does, as if its files were never read before, where that makes a difference."""
        return None

    def check_out(self) -> float | None:
        """Bring the first version's files into the folder."""
        return None

    def back(self) -> None:
        """Bring the last version back, untimed."""
        return


class Lake(Peer):
    """The lake itself."""

    name = "affectlake"

    def start(self, frame: pl.DataFrame) -> None:
        self.lake = self.folder / "lake"
        repository.init(self.lake, "study: benchmark\n")
        self.triplets = {"triplets": frame.lazy().select("trial_set", "i", "j", "k")}
        for at in range(0, len(frame), APPENDED):
            appending.append(self.lake, OUTPUT, frame[at : at + APPENDED], self.triplets)
        repository.publish(self.lake)

    def append(self, frame: pl.DataFrame, number: int) -> float:
        triplets = {"triplets": pl.concat([self.triplets["triplets"], frame.lazy().select("trial_set", "i", "j", "k")])}

        def add() -> None:
            with repository.writing(self.lake, "benchmark"):
                recover(self.lake, lambda _line: None)
                appending.append(self.lake, OUTPUT, frame, triplets)
                repository.publish(self.lake)

        return seconds(add)

    def ask(self) -> float:
        return command("affectlake", "query", COUNT.format("choices"), "--at", "v1", "--format", "json", cwd=self.lake)

    def ask_first(self) -> float:
        (self.lake / layout.KNOWN_HASHES).unlink(missing_ok=True)  # each file is hashed when it is first read
        return self.ask()

    def check_out(self) -> float:
        return seconds(lambda: checkout(self.lake, resolve(self.lake, "v1")))

    def back(self) -> None:
        checkout(self.lake, resolve(self.lake))


class Dvc(Peer):
    """Plain DVC commands: the parts in a folder that `dvc add` tracks, Git tags for versions."""

    name = "dvc"

    def start(self, frame: pl.DataFrame) -> None:
        for words in (("git", "init", "-q"), ("dvc", "init", "-q"), *IDENTITY):
            command(*words, cwd=self.folder)
        (self.folder / "choices").mkdir()
        for number, at in enumerate(range(0, len(frame), APPENDED)):
            frame[at : at + APPENDED].write_parquet(self.folder / f"choices/part-{number:05d}.parquet")
        self.publish("v1")

    def publish(self, tag: str) -> None:
        """Let DVC hash the folder, and Git keep the pointer."""
        for words in (("dvc", "add", "-q", "choices"), ("git", "add", "-A"), ("git", "commit", "-qm", tag)):
            command(*words, cwd=self.folder)
        command("git", "tag", tag, cwd=self.folder)

    def append(self, frame: pl.DataFrame, number: int) -> float:
        def add() -> None:
            frame.write_parquet(self.folder / f"choices/part-{number:05d}.parquet")
            self.publish(f"a{number}")

        return seconds(add)

    def ask(self) -> float:
        return (self.check_out() or 0.0) + python(DUCKDB.format("choices/*.parquet"), self.folder)

    def check_out(self) -> float | None:
        taken = command("git", "checkout", "-q", "v1", "--", "choices.dvc", cwd=self.folder)
        return taken + command("dvc", "checkout", "-q", "-f", cwd=self.folder)

    def back(self) -> None:
        command("git", "checkout", "-q", "HEAD", "--", "choices.dvc", cwd=self.folder)
        command("dvc", "checkout", "-q", "-f", cwd=self.folder)


class Delta(Peer):
    """delta-rs; an old version is asked by its file list, which DuckDB reads."""

    name = "delta-rs"

    def start(self, frame: pl.DataFrame) -> None:
        from deltalake import DeltaTable, write_deltalake

        for at in range(0, len(frame), APPENDED):
            write_deltalake(self.folder, frame[at : at + APPENDED], mode="append")
        self.first = DeltaTable(self.folder).version()

    def append(self, frame: pl.DataFrame, number: int) -> float:
        from deltalake import write_deltalake

        return seconds(lambda: write_deltalake(self.folder, frame, mode="append"))

    def ask(self) -> float:
        files = f"from deltalake import DeltaTable; f = DeltaTable('.', version={self.first}).file_uris(); "
        count = f'print(duckdb.sql(f"{COUNT.format("read_parquet({f})")}").fetchall())'
        return python(f"{files}import duckdb; {count}", self.folder)


class DataLad(Peer):
    """DataLad: the parts annexed in a dataset, Git tags for versions."""

    name = "DataLad"
    program = "datalad"

    def start(self, frame: pl.DataFrame) -> None:
        command(self.program, "create", "--force", "-c", "text2git", ".", cwd=self.folder)
        for words in IDENTITY:
            command(*words, cwd=self.folder)
        (self.folder / "choices").mkdir()
        for number, at in enumerate(range(0, len(frame), APPENDED)):
            frame[at : at + APPENDED].write_parquet(self.folder / f"choices/part-{number:05d}.parquet")
        command(self.program, "save", "-m", "v1", "--version-tag", "v1", cwd=self.folder)

    def append(self, frame: pl.DataFrame, number: int) -> float:
        def add() -> None:
            frame.write_parquet(self.folder / f"choices/part-{number:05d}.parquet")
            command(self.program, "save", "-m", "more", cwd=self.folder)

        return seconds(add)

    def ask(self) -> float:
        return (self.check_out() or 0.0) + python(DUCKDB.format("choices/*.parquet"), self.folder)

    def check_out(self) -> float | None:
        return command("git", "checkout", "-q", "v1", cwd=self.folder)

    def back(self) -> None:
        command("git", "checkout", "-q", "-", cwd=self.folder)


def compare(folder: Path, frame: pl.DataFrame, peers: list[type[Peer]], rounds: int) -> dict[str, dict[str, float]]:
    """Return the median seconds of each operation for each peer; they take turns within a round."""
    first = len(frame) - rounds * APPENDED
    standing = [peer(folder, frame[:first]) for peer in peers]
    taken: dict[str, dict[str, list[float]]] = {}
    for n in range(rounds):
        more = frame[first + n * APPENDED : first + (n + 1) * APPENDED]
        for peer in standing:
            number = -(-first // APPENDED) + n
            found = {f"append {APPENDED:,} rows and publish": peer.append(more, number)}
            found["check the old version out"] = peer.check_out()
            peer.back()
            for what, value in found.items():
                if value is not None:
                    taken.setdefault(what, {}).setdefault(peer.name, []).append(value)
    for _ in range(max(rounds, COLD_ROUNDS)):
        for peer in standing:
            unread = peer.ask_first()
            if unread is not None:
                hashed = taken.setdefault("the same, its files read for the first time", {})
                hashed.setdefault(peer.name, []).append(unread)
            asked = taken.setdefault("grouped count at an old version, cold process", {})
            asked.setdefault(peer.name, []).append(peer.ask())
            peer.back()
    return {what: {name: statistics.median(v) for name, v in row.items()} for what, row in taken.items()}


def alone(folder: Path, n_stimuli: int, rounds: int) -> dict[str, float]:
    """Return the median seconds of what only the lake does, on a table that a step makes."""
    lake = folder / "made"
    repository.init(lake, "study: benchmark\n")
    outs = [{f"{layout.TABLES}/choices/agent": {"persist": True}}]
    (lake / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"made": {"cmd": "affectlake step made --step-version 1", "outs": outs}}})
    )
    taken: dict[str, list[float]] = {}
    for seed in (1, 2):
        frame = choices(n_stimuli, seed)
        taken.setdefault("write all of them, flushed", []).append(put(lake, frame))
        done = seconds(lambda: (record_done(lake, "made"), repository.publish(lake)))
        taken.setdefault("keep them in the cache and publish", []).append(done)
    v1, v2 = resolve(lake, "v1"), resolve(lake, "v2")
    triplets = frame.lazy().select("trial_set", "i", "j", "k")
    files, table = parts.part_files(lake / Output("choices", "agent").folder), contract("choices")
    for _ in range(rounds):
        taken.setdefault("row diff of two versions, 2 % changed", []).append(seconds(lambda: diff(lake, v1, v2)))
        taken.setdefault("check out an old version, verified", []).append(seconds(lambda: checkout(lake, v1)))
        checkout(lake, v2)

        def validate() -> None:
            assert not expectations.validate(table, files) + rules.check(table, files, {"triplets": triplets})

        taken.setdefault("validate all of them", []).append(seconds(validate))
    return {name: statistics.median(values) for name, values in taken.items()}


def dvc_ask(rev: str) -> str:
    """Return a script's lines for one who knows DVC's cache: it asks :data:`COUNT` at `rev`, no file put anywhere."""
    names = f"fs = DVCFileSystem('.', rev='{rev}'); m = [fs.info(p)['dvc_info']['md5'] for p in fs.find('choices')]; "
    count = f'print(duckdb.sql(f"{COUNT.format("read_parquet({f})")}").fetchall())'
    return names + "f = [f'.dvc/cache/files/md5/{x[:2]}/{x[2:]}' for x in m]; " + count + "; "


DVC_SCRIPT = "from dvc.api import DVCFileSystem; import duckdb; "


class Remade:
    """A table that was made anew, so that its two versions share no part, in the lake and in a DVC repository.

    Parameters
    ----------
    folder : Path
        An empty folder.
    lake : Path
        A lake with such versions ``v1`` and ``v2``; DVC gets copies of the same parts.
    """

    def __init__(self, folder: Path, lake: Path) -> None:
        self.lake, self.folder, self.beside = lake, folder / "dvc", folder / "beside"
        (self.folder / "choices").mkdir(parents=True)
        remote = ("dvc", "remote", "add", "-q", "-d", "storage", str(folder / "remote"))
        for words in (("git", "init", "-q"), ("dvc", "init", "-q"), *IDENTITY, remote):
            command(*words, cwd=self.folder)
        for name in ("v1", "v2"):
            shutil.rmtree(self.folder / "choices")
            (self.folder / "choices").mkdir()
            for file in Manifest(lake, resolve(lake, name).commit).files(OUTPUT):
                shutil.copyfile(file.cached, self.folder / "choices" / file.path.name)
            for words in (("dvc", "add", "-q", "choices"), ("git", "add", "-A"), ("git", "commit", "-qm", name)):
                command(*words, cwd=self.folder)
            command("git", "tag", name, cwd=self.folder)
        command("dvc", "push", "-q", "-A", cwd=self.folder)

    def ways(self) -> dict[str, Callable[[], float]]:
        """Return the ways to ask version 1 from where version 2 stands; each returns its seconds."""
        return {
            "affectlake query --at v1": self._asked,
            "a script: DVCFileSystem names the cached files, DuckDB reads them": self._found,
            "dvc checkout in place, then DuckDB (the working files change)": self._in_place,
            "dvc get --rev v1, then DuckDB": self._got,
            "git clone and dvc pull from a local remote, then DuckDB": self._cloned,
        }

    def _asked(self) -> float:
        return command("affectlake", "query", COUNT.format("choices"), "--at", "v1", "--format", "json", cwd=self.lake)

    def _found(self) -> float:
        return python(DVC_SCRIPT + dvc_ask("v1"), self.folder)

    def _in_place(self) -> float:
        taken = self._switch("v1") + python(DUCKDB.format("choices/*.parquet"), self.folder)
        self._switch("v2")
        return taken

    def _switch(self, name: str) -> float:
        taken = command("git", "checkout", "-q", name, "--", "choices.dvc", cwd=self.folder)
        return taken + command("dvc", "checkout", "-q", "-f", cwd=self.folder)

    def _got(self) -> float:
        shutil.rmtree(self.beside, ignore_errors=True)
        self.beside.mkdir()
        taken = command("dvc", "get", "-q", "--rev", "v1", self.folder, "choices", cwd=self.beside)
        return taken + python(DUCKDB.format("choices/*.parquet"), self.beside)

    def _cloned(self) -> float:
        shutil.rmtree(self.beside, ignore_errors=True)
        clone = ("git", "clone", "-q", "--branch", "v1", self.folder, self.beside)
        taken = command(*clone, cwd=self.folder) + command("dvc", "pull", "-q", cwd=self.beside)
        return taken + python(DUCKDB.format("choices/*.parquet"), self.beside)

    def in_session(self) -> dict[str, Callable[[], float]]:
        """Return the ways to ask version 1 in a Python session that has imported what it needs, such as a notebook."""
        import duckdb
        from dvc.repo import Repo

        import affectlake

        def count() -> object:
            return duckdb.sql(COUNT.format(f"'{self.folder}/choices/*.parquet'")).fetchall()

        def by_commands() -> float:
            taken = self._switch("v1") + seconds(count)
            self._switch("v2")
            return taken

        def by_objects() -> float:
            def checked_out() -> None:
                with Repo(str(self.folder)) as repo:
                    repo.checkout(force=True)

            taken = command("git", "checkout", "-q", "v1", "--", "choices.dvc", cwd=self.folder)
            taken += seconds(checked_out) + seconds(count)
            self._switch("v2")
            return taken

        return {
            'affectlake.open(".").sql(…, at="v1")': lambda: seconds(
                lambda: affectlake.open(self.lake).sql(COUNT.format("choices"), at="v1").fetchall()
            ),
            "git checkout and dvc checkout as commands, then DuckDB": by_commands,
            "git checkout, DVC's own Repo.checkout (no public interface), then DuckDB": by_objects,
        }


def ask_history(folder: Path, frame: pl.DataFrame, rounds: int) -> dict[str, float]:
    """Return the median seconds of the same count at each of :data:`N_VERSIONS`, each one part longer than the last."""
    folder.mkdir()
    n_first = len(frame) - (N_VERSIONS - 1) * APPENDED
    lake, dvc = Lake(folder, frame[:n_first]), Dvc(folder, frame[:n_first])
    tags = ["v1"]
    for n in range(N_VERSIONS - 1):
        more = frame[n_first + n * APPENDED : n_first + (n + 1) * APPENDED]
        number = -(-n_first // APPENDED) + n
        lake.append(more, number)
        dvc.append(more, number)
        tags.append(f"a{number}")
    one = "SELECT '{0}' AS version, odd, n FROM (" + COUNT.format('"choices@{0}"') + ")"
    counts = " UNION ALL ".join(one.format(f"v{n + 1}") for n in range(N_VERSIONS))

    def checked_out() -> float:
        taken = 0.0
        for tag in tags:
            taken += command("git", "checkout", "-q", tag, "--", "choices.dvc", cwd=dvc.folder)
            taken += command("dvc", "checkout", "-q", "-f", cwd=dvc.folder)
            taken += python(DUCKDB.format("choices/*.parquet"), dvc.folder)
        return taken

    ways = {
        f"affectlake query, {N_VERSIONS} versions in one question": lambda: command(
            "affectlake", "query", counts, "--format", "json", cwd=lake.lake
        ),
        "a script: DVCFileSystem names the cached files of each, DuckDB reads them": lambda: python(
            DVC_SCRIPT + "".join(dvc_ask(tag) for tag in tags), dvc.folder
        ),
        "dvc checkout in place, then DuckDB, version by version": checked_out,
    }
    return ask(ways, rounds)


def ask(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each way; they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(way())
    return {name: statistics.median(values) for name, values in taken.items()}


def floor(folder: Path, rounds: int) -> dict[str, float]:
    """Return the median seconds of what every answer from a cold Python process holds."""
    codes = {"Python alone": "pass", "and import duckdb": "import duckdb"}
    return ask({name: partial(python, code, folder) for name, code in codes.items()}, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stimuli", type=int, default=2180)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--datalad", default="datalad", help="The command.")
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    DataLad.program = arguments.datalad
    peers: list[type[Peer]] = [Lake, Dvc]
    peers += [Delta] if importlib.util.find_spec("deltalake") else []
    peers += [DataLad] if shutil.which(arguments.datalad) else []
    with tempfile.TemporaryDirectory() as folder:
        frame = choices(arguments.stimuli, 1)
        table = compare(Path(folder), frame, peers, arguments.rounds)
        own = alone(Path(folder), arguments.stimuli, arguments.rounds)
        standing = Remade(Path(folder) / "remade", Path(folder) / "made")
        remade = ask(standing.ways(), max(arguments.rounds, COLD_ROUNDS))
        session = ask(standing.in_session(), max(arguments.rounds, COLD_ROUNDS))
        history = ask_history(Path(folder) / "history", frame, arguments.rounds)
        bare = floor(Path(folder), max(arguments.rounds, COLD_ROUNDS))
    packages = ("polars", "duckdb", "dvc", "great_expectations", *(["deltalake"] if Delta in peers else []))
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)
    if DataLad in peers:
        said = subprocess.run([arguments.datalad, "--version"], check=True, capture_output=True, text=True)
        versions += f", {said.stdout.strip()}"
    print(f"{len(frame):,} choices in parts of {APPENDED:,}; {platform.machine()}, {os.cpu_count()} cores,")
    print(f"{datetime.now(UTC):%Y-%m-%d}; {versions}. Median of {arguments.rounds} rounds, seconds;")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB.")
    names = [peer.name for peer in peers]
    print(f"\n| what | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for what, row in table.items():
        print(f"| {what} | {' | '.join(f'{row[n]:.2f}' if n in row else '-' for n in names)} |")
    print("\n| what only the lake does | seconds |\n|---|---|")
    for name, value in own.items():
        print(f"| {name} | {value:.2f} |")
    print(f"\nMedian of {max(arguments.rounds, COLD_ROUNDS)} cold processes in turn:")
    against("a grouped count at an old version that shares no part", remade | bare)
    against("the same in a Python session that runs", session)
    against(f"the same count at each of {N_VERSIONS} versions", history)


def against(what: str, taken: dict[str, float]) -> None:
    """Print the ways to do one thing, and how many times as long as the first each takes."""
    first = next(iter(taken.values()))
    print(f"\n| {what} | seconds | times as long |\n|---|---|---|")
    for name, value in taken.items():
        print(f"| {name} | {value:.2f} | {value / first:.1f} |")


if __name__ == "__main__":
    main()

"""The paths of a lake's files. Nothing is read or written here."""

from __future__ import annotations

import posixpath
from pathlib import Path

TABLES = Path("storage/tables")
COLLECTED = Path("storage/collected")
STAGING = Path("storage/staging")
QUARANTINE = Path("storage/quarantine")
UNRECORDED = Path("storage/staging/unrecorded")
SCRATCH = Path("storage/scratch")
MAPPED = Path("storage/scratch/mapped")
KNOWN_HASHES = Path("storage/scratch/known-hashes")
PARAMS_SCHEMA = Path("storage/scratch/params.schema.json")
REPORTS = Path("storage/reports")
COLLECTING = Path("storage/collecting")
MODEL_RUNS = Path("storage/mlflow.db")
MODEL_FILES = Path("storage/mlflow")
REMOTE = Path("storage/remote")
WRITER_LOCK = Path("storage/.writer.lock")
FORMAT = Path("storage/format")
FORGOTTEN = Path("storage/forgotten.yaml")
FORGETTING = Path("storage/staging/forgetting")

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
PIPELINE_LOCK = Path("dvc.lock")
PROTOCOLS = Path("protocols")
README = Path("README.md")
CITATION = Path("CITATION.cff")

# files that define which tables a lake holds; a version that joins two lakes has them as given, not as Git merges them
MANIFEST = (PARAMS, PIPELINE, PIPELINE_LOCK, COLLECTED)

# files that define which tables a lake holds and how they are made
STATE = (*MANIFEST, PROTOCOLS)

# not in Git: DVC tracks the tables, the rest belongs to this machine
IGNORED = (TABLES, STAGING, QUARANTINE, SCRATCH, REPORTS, COLLECTING, MODEL_RUNS, MODEL_FILES, REMOTE, WRITER_LOCK)


def leads_to_tables(path: str) -> bool:
    """Return whether a path in a manifest starts in the folder of tables, or resolves to a path in it."""
    places = (path, posixpath.normpath(path))
    return any(place == str(TABLES) or place.startswith(f"{TABLES}/") for place in places)

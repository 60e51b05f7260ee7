"""The optional parts of affectlake: which packages an extra of ``pip install`` has, and the error if one is missing.

Without extras, a lake can be read: versions, queries, differences, checkouts, citations, figures and reports.
``pyproject.toml`` lists the same packages as distributions; a test compares the two.
"""

from __future__ import annotations

from importlib.util import find_spec

from affectlake.errors import ExtraError

EXTRAS: dict[str, tuple[str, ...]] = {
    "remote": ("dvc",),
    "ssh": ("dvc_ssh",),
    "s3": ("dvc_s3",),
    "study": (
        "aiohttp",
        "apprise",
        "av",
        "dvc",
        "fastexcel",
        "great_expectations",
        "h5py",
        "llvmlite",
        "mlflow",
        "networkx",
        "nibabel",
        "numba",
        "pandas",
        "prefect",
        "psutil",
        "pyarrow",
        "scipy",
        "sklearn",
        "starlette",
        "threadpoolctl",
        "torch",
        "uvicorn",
    ),
    "text": ("sentence_transformers",),
    "vision": ("transformers", "safetensors"),
    "torchvision": ("torchvision", "timm"),
    "editing": ("diffusers", "transformers", "safetensors"),
    "surfaces": ("nilearn", "plotly"),
}
"""The packages that each extra has, by the names under which they are imported, small extras first."""


_SHOWN = 5


def install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'affectlake[{extra}]'"


def require(extra: str, what: str) -> None:
    """Raise :class:`ExtraError` unless all packages of an extra are installed; they are not imported.

    Parameters
    ----------
    extra : str
        A key of :data:`EXTRAS`.
    what : str
        What needs it, such as ``affectlake run``.
    """
    missing = [name for name in EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise _missing(extra, what, missing)


def require_package(package: str, what: str) -> None:
    """Raise :class:`ExtraError` unless one package of an extra is installed.

    Parameters
    ----------
    package : str
        The name under which it is imported.
    what : str
        What needs it, such as ``lake.patterns``.
    """
    if find_spec(package) is None:
        raise _missing(_extra_of(package), what, [package])


def missing_extra(error: BaseException | None, what: str) -> ExtraError | None:
    """Return the error to show for an exception that a missing package of an extra caused.

    Parameters
    ----------
    error : BaseException or None
        The exception.
    what : str
        What needed the package.

    Returns
    -------
    ExtraError or None
        None if the cause is something else.
    """
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            package = error.name.partition(".")[0]
            extra = _extra_of(package)
            if extra and find_spec(package) is None:
                return _missing(extra, what, [package])
        error = error.__cause__ or error.__context__
    return None


def _extra_of(package: str) -> str:
    """Return the first extra that has a package; empty if none has it."""
    return next((name for name, packages in EXTRAS.items() if package in packages), "")


def _missing(extra: str, what: str, packages: list[str]) -> ExtraError:
    shown = packages if len(packages) <= _SHOWN else [*packages[: _SHOWN - 1], f"{len(packages) - _SHOWN + 1} others"]
    is_or_are = "is" if len(packages) == 1 else "are"
    return ExtraError(
        f'{what} needs the extra "{extra}"',
        found=f"{', '.join(shown)} {is_or_are} not installed",
        todo=install(extra),
    )

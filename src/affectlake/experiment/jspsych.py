"""The files of jsPsych, which runs the experiment in the browser: one pinned package of npm, never a CDN.

A wheel contains them if the registry could be reached when it was built. Otherwise they are downloaded once, verified,
and kept in the user's cache. Of its style sheet nothing is needed: the page has its own.

The module needs the standard library alone: ``setup.py`` imports it.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from affectlake.errors import SourceError
from affectlake.process.user_cache import user_cache

VERSION = "8.3.0"
ADDRESS = f"https://registry.npmjs.org/jspsych/-/jspsych-{VERSION}.tgz"
SHA512 = (
    "52bc12546d78bfca115fa5854352fabae193d06eca8110d21f8f22288548408f"
    "b231118096f83eb4450d14a7bfd71671824de4662679c4fd009e93ea3e3d7392"
)
"""SHA-512 of the package, as the registry states it in base 64 (``dist.integrity``)."""

PACKAGE = "AFFECTLAKE_JSPSYCH"
"""The environment variable with the path of the package, for computers that cannot reach the registry."""

FILES = {
    "jspsych.js": (
        "package/dist/index.browser.min.js",
        "2873f8192e497e733f53410020229b566b03cbdb9906a213a6d7517085206b0d"
        "d11da81fc79f7cde7d5c0eb6f8daa0bb87b5b934b6a37963b621d3acf8382a9f",
    ),
    "package.json": (
        "package/package.json",
        "a6daf3872a46661233b164dff69296c7bfd402569c4607414f776f05a557a665"
        "ebf641798521943a183fd6f547e35164ac9b944e4628e40d614ac330d782fe76",
    ),
}
"""Name of each file, its name in the package, and the SHA-512 of what is kept of it.

The second states author and licence (MIT)."""

IN_PACKAGE = Path(__file__).with_name("jspsych_files")
"""The folder in which a wheel has the files."""

_SOURCE_MAP = b"//# sourceMappingURL="
"""What follows is the address of a file on another server, which a browser's developer tools would ask for."""

_LIMIT_S = 60
_MOST_BYTES = 10_000_000


def jspsych_files() -> dict[str, Path]:
    """Return the files of jsPsych by the names under which they are served; download them if they are not at hand.

    The first of these is taken whose files have the expected hashes: the package that `PACKAGE` names; the package
    data of a wheel; the user's cache; the registry of npm.

    Returns
    -------
    dict
        ``jspsych.js``, which a page loads, and ``package.json``.

    Raises
    ------
    SourceError
        If the registry cannot be reached, or the package is another one than expected.
    """
    given = os.environ.get(PACKAGE, "")
    if not given and _complete(IN_PACKAGE):
        return _paths(IN_PACKAGE)
    folder = user_cache(f"jspsych-{VERSION}") or Path(tempfile.mkdtemp(prefix="affectlake-jspsych-"))
    if given or not _complete(folder):
        write_files(folder, _read(Path(given)) if given else _download())
    return _paths(folder)


def write_files(folder: Path, package: bytes) -> None:
    """Write the files of a package to a folder, each at once.

    Parameters
    ----------
    folder : Path
        The folder; it is created if it does not exist.
    package : bytes
        The package, a compressed archive.

    Raises
    ------
    SourceError
        If the package does not have the expected hash. Nothing is written.
    """
    found = hashlib.sha512(package).hexdigest()
    if found != SHA512:
        raise SourceError(
            f"this is not the package of jsPsych {VERSION}",
            wanted=f"SHA-512 {SHA512[:16]}…",
            found=f"{len(package):,} bytes with SHA-512 {found[:16]}…",
            todo=f"download {ADDRESS} again, and name it with {PACKAGE}",
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        for name, (member, _) in FILES.items():
            opened = archive.extractfile(member)
            assert opened is not None  # the hash of the archive is that of one that has it
            made = folder / f".{name}.{os.getpid()}"
            made.write_bytes(opened.read().partition(_SOURCE_MAP)[0])
            made.replace(folder / name)


def _paths(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in FILES}


def _complete(folder: Path) -> bool:
    """Return whether a folder has the files, unchanged."""
    try:
        return all(
            hashlib.sha512((folder / name).read_bytes()).hexdigest() == wanted for name, (_, wanted) in FILES.items()
        )
    except OSError:
        return False


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(
            f"the package that {PACKAGE} names cannot be read",
            wanted=f"the package of jsPsych {VERSION}",
            found=str(error),
            todo=f"download {ADDRESS}, or unset {PACKAGE}",
        ) from error


def _download() -> bytes:
    try:
        with urllib.request.urlopen(ADDRESS, timeout=_LIMIT_S) as answer:
            package: bytes = answer.read(_MOST_BYTES)
    except (OSError, urllib.error.URLError) as error:
        raise SourceError(
            f"jsPsych {VERSION} is neither installed nor in the cache, and cannot be downloaded",
            wanted=ADDRESS,
            found=str(getattr(error, "reason", error)),
            todo=f"download it on another computer and set {PACKAGE} to the path of the file",
        ) from error
    return package

"""Failures of DVC remotes: which of a few causes an exception has, and what to do about each.

Every kind of remote has its own exceptions, from packages that need not be installed, so they are told apart by name.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from urllib.parse import urlsplit

from affectlake.errors import LakeError
from affectlake.extras import EXTRAS, install

_DENIED = {
    "PermissionError", "PermissionDenied", "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
    "ProfileNotFound", "TokenRetrievalError", "UnauthorizedSSOTokenError", "AuthError", "KeyImportError",
    "KeyEncryptionError", "ClientAuthenticationError", "DefaultCredentialsError", "RefreshError",
}  # fmt: skip
_APART = {
    "ConnectionError", "TimeoutError", "gaierror", "EndpointConnectionError", "ConnectTimeoutError",
    "ReadTimeoutError", "ConnectionClosedError", "HTTPClientError", "ConnectionLost", "ClientConnectionError",
    "ServerTimeoutError", "HostKeyNotVerifiable", "DisconnectError",
}  # fmt: skip
_NO_ROUTE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.ECONNREFUSED}
_REFUSED = (401, 403)

_LOG_IN = {
    "s3": "use your own keys: `aws configure`, the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile:"
    " `affectlake remote set {name} --profile PROFILE`; if you have keys, ask the owner of the bucket for access",
    "ssh": "name your account and key: `affectlake remote set {name} --user NAME --keyfile FILE` (or `ssh-add` the"
    " key); the server has to know the key, and your account needs access to the folder",
    "http": "`affectlake remote set {name} --user NAME --ask-password`",
    "": "ask the owner of the folder for permission to read it (to push: to write to it)",
}
_LOG_IN |= dict.fromkeys(("https", "webdav", "webdavs"), _LOG_IN["http"])


def scheme_of(url: str) -> str:
    """Return the scheme of a remote's URL; empty for a folder of this machine."""
    return urlsplit(url).scheme if "://" in url else ""


def extra_of(scheme: str) -> str:
    """Return the command that installs what DVC needs for a kind of remote."""
    if scheme in EXTRAS:
        return install(scheme)
    return f"pip install dvc-{'webdav' if scheme == 'webdavs' else 'http' if scheme == 'https' else scheme}"


def not_installed(name: str, url: str) -> LakeError:
    """Return the error for a remote whose package is not installed."""
    scheme = scheme_of(url)
    return LakeError(
        f"the remote {name} ({url}) needs a package that is not installed here", todo=f"`{extra_of(scheme)}`"
    )


def failure(name: str, url: str, error: BaseException) -> LakeError:
    """Return the error that names the cause of an exception: access, the network, or what the exception has.

    Parameters
    ----------
    name, url : str
        The remote.
    error : BaseException
        An exception of the remote's file system, from connecting to it or from reading or writing files.
    """
    scheme = scheme_of(url)
    words = str(error).splitlines()
    found = ": ".join(filter(None, (type(error).__name__, words[0] if words else "")))
    if any(_is_denied(one) for one in _chain(error)):
        todo = _LOG_IN.get(scheme, f"set your credentials: `dvc remote modify --local {{name}} …` ({scheme})")
        return LakeError(f"the remote {name} ({url}) refused access", found=found, todo=todo.format(name=name))
    if any(_is_apart(one) for one in _chain(error)):
        todo = "check the network (a VPN?), and the address: `affectlake remote list`"
        return LakeError(f"the remote {name} ({url}) cannot be reached", found=found, todo=todo)
    return LakeError(
        f"the remote {name} ({url}) could not be used",
        found=found,
        todo=f"check its settings: `affectlake remote list`, `affectlake remote set {name}`",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that led to it."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _is_denied(error: BaseException) -> bool:
    return bool(_names(error) & _DENIED) or getattr(error, "status", None) in _REFUSED


def _is_apart(error: BaseException) -> bool:
    return bool(_names(error) & _APART) or getattr(error, "errno", None) in _NO_ROUTE


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}

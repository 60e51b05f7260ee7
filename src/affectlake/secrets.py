"""Secrets that addresses carry: the user name and password of a URL, and its parameters that name a secret.

Servers, remotes and tracking stores are addressed so, and whatever goes wrong with them is told with their address.
API keys, which are known by their names, do not belong here.
"""

from __future__ import annotations

import re

HIDDEN = "***"

_STRICT = r"(?<=://)[^\s/'\"<>]*(?=@)"  # as the standard writes it: no slash before the last @
_LOOSE = r"(?<=://)[^\s/:@'\"<>]+:(?!\d+/)[^\s'\"<>]*(?=@)"  # a password may hold a slash; a port is none
_PARAMETER = (
    r"(?i:(?<=[?&;])(?P<name>[\w.-]*(?:password|passwd|pwd|secret|token|signature|sig|key)[\w.-]*=)[^&;\s'\"<>]+)"
)
_SECRET = re.compile(f"{_LOOSE}|{_STRICT}|{_PARAMETER}")


def hide(words: str) -> str:
    """Return `words` with the secrets of the URLs in them replaced by ``***``.

    >>> hide("no server at http://me:hunter2@host:4200/api")
    'no server at http://***@host:4200/api'
    """
    if "://" not in words:
        return words
    return _SECRET.sub(lambda found: f"{found['name'] or ''}{HIDDEN}", words)

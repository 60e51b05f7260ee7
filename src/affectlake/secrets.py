"""Secrets in URLs: the user name and password, and query parameters that hold a secret.

Servers, remotes and tracking stores have such URLs, and error messages about them contain the URL.
"""

from __future__ import annotations

import re

HIDDEN = "***"

_STRICT = r"(?<=://)[^\s/'\"<>]*(?=@)"  # as in the standard: no slash before the last @
_LOOSE = r"(?<=://)[^\s/:@'\"<>]+:(?!\d+/)[^\s'\"<>]*(?=@)"  # a password may contain a slash; a port is not a password
_PARAMETER = (
    r"(?i:(?<=[?&;])(?P<name>[\w.-]*(?:password|passwd|pwd|secret|token|signature|sig|key)[\w.-]*=)[^&;\s'\"<>]+)"
)
_SECRET = re.compile(f"{_LOOSE}|{_STRICT}|{_PARAMETER}")


def hide(text: str) -> str:
    """Return `text` with the secrets in its URLs replaced by ``***``.

    >>> hide("no server at http://me:hunter2@host:4200/api")
    'no server at http://***@host:4200/api'
    """
    if "://" not in text:
        return text
    return _SECRET.sub(lambda found: f"{found['name'] or ''}{HIDDEN}", text)

"""Which addresses may be asked for anything: packs, logs, servers. Ground floor: whoever checks an address loads nothing else."""

from __future__ import annotations

import re
from typing import Final

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_LONGEST_ADDRESS: Final = 2048
# What nearly every address looks like. `urllib.parse`, and `ipaddress` behind it, are loaded for the others only.
_PLAIN_HTTPS: Final = re.compile(r"https://[A-Za-z0-9][A-Za-z0-9.-]*/[A-Za-z0-9/._~%+,=-]*")


def is_permitted_address(url: str) -> bool:
    """Whether `url` is https, or http to this very machine (a mirror or a test). Never file:, ftp: or data:."""
    if len(url) > _LONGEST_ADDRESS or not url.isascii() or not url.isprintable() or " " in url:
        return False
    if _PLAIN_HTTPS.fullmatch(url):
        return True
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    # Credentials in an address would end up in messages and logs.
    if not host or parts.username is not None or parts.password is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)


def is_loopback(url: str) -> bool:
    """Whether a permitted address stays on this machine."""
    from urllib.parse import urlsplit

    return urlsplit(url).hostname in _LOOPBACK

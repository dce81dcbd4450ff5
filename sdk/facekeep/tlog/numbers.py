"""The two spellings the C2SP texts share: decimals without leading zeroes, and base64 with one spelling for one value."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from facekeep.errors import LogError

LARGEST_SIZE: Final = 2**63 - 1  # https://c2sp.org/tlog-tiles: a tile's level is at most 63


def malformed(what: str) -> LogError:
    """Return the error for bytes that are not of their format."""
    return LogError("log.malformed", f"{what}.")


def parse_decimal(text: str, what: str) -> int:
    """Return a non-negative number written in ASCII without leading zeroes.

    Raises:
        LogError: "log.malformed".
    """
    # The length first: converting a decimal of a megabyte takes quadratic time.
    if not (0 < len(text) <= 19 and text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")):
        raise malformed(f"{what} is a decimal number without leading zeroes")
    number = int(text)
    if number > LARGEST_SIZE:
        raise malformed(f"{what} is at most 2^63 - 1")
    return number


def parse_base64(text: str, what: str) -> bytes:
    """Return the bytes of standard base64, refusing every other spelling of them.

    Raises:
        LogError: "log.malformed".
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        data = b""
    # The unused bits of the last character would let a byte of a note change unseen.
    if not data or base64.b64encode(data).decode() != text:
        raise malformed(f"{what} is standard base64")
    return data


def parse_hash(text: str) -> bytes:
    """Return a SHA-256 value in base64.

    Raises:
        LogError: "log.malformed".
    """
    data = parse_base64(text, "A hash")
    if len(data) != 32:
        raise malformed("A hash has 32 bytes")
    return data


def to_base64(data: bytes) -> str:
    """Return standard base64."""
    return base64.b64encode(data).decode("ascii")

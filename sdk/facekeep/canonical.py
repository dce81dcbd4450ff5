"""Canonical JSON: one value, one spelling, so that it can be hashed and signed.

A subset of RFC 8785 (JCS): objects with ASCII keys, arrays, strings, integers of at most 53 bits, booleans and null. Within it
the output equals RFC 8785's: keys in code-unit order, no white space, shortest escapes. Floating-point numbers are
refused: no signed document of ours needs one, and their spelling is where canonical forms disagree.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

# The one spelling of a SHA-256 in a document.
HEX_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_LARGEST_INTEGER = 2**53 - 1


def to_canonical(value: object) -> bytes:
    """Return the one canonical spelling of `value` as UTF-8.

    Raises:
        ValueError: if `value` holds a float, a large integer, a key that is not ASCII, or a lone surrogate.
    """
    _require_subset(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def parse_canonical(data: bytes) -> Any:
    """Return the value of canonical bytes, refusing every other spelling of it.

    Raises:
        ValueError: if the bytes are not JSON or not canonical (duplicate keys, other order, white space).
    """
    try:
        value = json.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if to_canonical(value) != data:
        raise ValueError("not in canonical form")
    return value


def _require_subset(value: object, depth: int = 0) -> None:
    if depth > 32:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise ValueError("a key has to be an ASCII string")
            _require_subset(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _require_subset(item, depth + 1)
    elif isinstance(value, bool) or value is None or isinstance(value, str):
        return
    elif isinstance(value, int):
        if abs(value) > _LARGEST_INTEGER:
            raise ValueError("an integer has to fit into 53 bits")
    else:
        raise ValueError(f"a {type(value).__name__} has no canonical form here")

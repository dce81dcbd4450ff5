"""The bytes of a message: fixed fields and bounded lists behind a magic, a version and a kind. One message, one spelling.

Numbers are unsigned and big-endian. Whoever reads says how long a field may be before a byte of it is copied: a peer cannot make
the other side allocate.
"""

from __future__ import annotations

from typing import Final

from facekeep.errors import FederationError

MAGIC: Final = b"FKR"
VERSION: Final = 1
HEADER_BYTES: Final = 5


class Writer:
    """Builds a message.

    Args:
        kind: number of the message type; None for a part that another message holds.
    """

    def __init__(self, kind: int | None = None) -> None:
        self._parts: list[bytes] = [] if kind is None else [MAGIC + bytes([VERSION, kind])]

    def number(self, value: int, size: int) -> Writer:
        """Append a number of `size` bytes."""
        self._parts.append(value.to_bytes(size, "big"))
        return self

    def fixed(self, value: bytes, size: int) -> Writer:
        """Append exactly `size` bytes.

        Raises:
            ValueError: if `value` has another length.
        """
        if len(value) != size:
            raise ValueError(f"expected {size} bytes")
        self._parts.append(value)
        return self

    def sized(self, value: bytes) -> Writer:
        """Append a length of four bytes and `value`."""
        self._parts += [len(value).to_bytes(4, "big"), value]
        return self

    def to_bytes(self) -> bytes:
        """Return the message."""
        return b"".join(self._parts)


class Reader:
    """Takes a message apart.

    Args:
        data: the message.
        kind: number of the message type expected; None for a part that another message holds.
        most: the largest size this message may have.

    Raises:
        FederationError: "federation.malformed", here and in every method.
    """

    def __init__(self, data: bytes, kind: int | None, most: int) -> None:
        if len(data) > most:
            raise malformed(f"A message of {len(data)} bytes came where at most {most} are allowed")
        self._data, self._at = data, 0
        if kind is not None and self.fixed(HEADER_BYTES) != MAGIC + bytes([VERSION, kind]):
            raise malformed(f"The message does not begin as one of kind {kind}, version {VERSION}")

    def number(self, size: int, most: int) -> int:
        """Return a number of `size` bytes that is at most `most`."""
        value = int.from_bytes(self.fixed(size), "big")
        if value > most:
            raise malformed(f"A count or number is {value}; at most {most} is allowed")
        return value

    def fixed(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise malformed("The message is cut short")
        found, self._at = self._data[self._at : end], end
        return found

    def sized(self, most: int) -> bytes:
        """Return the bytes behind a length of four bytes."""
        return self.fixed(self.number(4, most))

    def text(self, most: int) -> str:
        """Return the UTF-8 text behind a length of four bytes."""
        try:
            return self.sized(most).decode("utf-8")
        except UnicodeDecodeError:
            raise malformed("A text is not UTF-8") from None

    def end(self) -> None:
        """Return if nothing is left: a second reading of the same bytes must not be possible."""
        if self._at != len(self._data):
            raise malformed("The message goes on after its end")


def malformed(what: str) -> FederationError:
    """Return the error for a message that is not of its form."""
    return FederationError("federation.malformed", f"{what}.")

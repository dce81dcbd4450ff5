"""What a server may ask of a device, by name; and the refusal a device answers with instead."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.errors import CODES
from facekeep.protocol.codec import malformed

MOST_REFUSAL_BYTES = 256


class Action(StrEnum):
    """One message from the server. The round runs through PREPARE, TRAIN, CONFIRM, UNMASK."""

    HELLO = "hello"
    PREPARE = "prepare"
    TRAIN = "train"
    CONFIRM = "confirm"
    UNMASK = "unmask"
    ABANDON = "abandon"
    OFFER = "offer"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What travels in place of an answer: the stable code of the error and nothing else.

    Attributes:
        code: one of `facekeep.errors.CODES`.
    """

    code: str

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError("a refusal carries one of the known codes")

    def to_bytes(self) -> bytes:
        """Return the canonical JSON."""
        return to_canonical({"v": 1, "refused": self.code})

    @staticmethod
    def is_refusal(body: bytes) -> bool:
        """Return whether a reply is JSON: every other message of a round begins with the magic of `codec`."""
        return body[:1] == b"{"

    @classmethod
    def parse(cls, body: bytes) -> Refusal:
        """Return the refusal of a reply.

        Raises:
            FederationError: "federation.malformed".
        """
        try:
            if len(body) > MOST_REFUSAL_BYTES:
                raise ValueError
            fields = parse_canonical(body)
            if fields.keys() != {"v", "refused"} or fields["v"] != 1:
                raise ValueError
            return cls(fields["refused"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise malformed("The refusal is not of its form") from None

"""One message of a round inside one message of Flower: an action and bytes, nothing else.

Flower's own records (arrays, metrics) are not used: what is inside the bytes is ours, versioned, bounded and signed
(docs/formats/round.md), so that another transport can carry it unchanged.
"""

from __future__ import annotations

import re
from typing import Final

from flwr.app import ConfigRecord, Message, RecordDict

from facekeep.errors import FederationError

MESSAGE_TYPE: Final = "query.facekeep"  # "query" and the name under which the ClientApp answers
ACTION_NAME: Final = "facekeep"
RECORD: Final = "facekeep"
# The largest message is a masked update of four bytes for each of some 60,000 numbers, or a release with its parameters. This
# bounds what the other side can make one hold before a signature was checked.
LARGEST_BODY: Final = 16 * 1024 * 1024

_ACTION = re.compile(r"[a-z]{1,16}")


def pack_request(action: str, body: bytes) -> RecordDict:
    """Return the content of a message to a device."""
    return RecordDict({RECORD: ConfigRecord({"action": action, "body": body})})


def unpack_request(message: Message) -> tuple[str, bytes]:
    """Return action and body of a message that a device received.

    Raises:
        FederationError: "federation.malformed".
    """
    record = _only_record(message, {"action", "body"})
    action, body = record["action"], record["body"]
    if not isinstance(action, str) or not _ACTION.fullmatch(action) or not isinstance(body, bytes) or len(body) > LARGEST_BODY:
        raise _malformed()
    return action, body


def pack_reply(body: bytes) -> RecordDict:
    """Return the content of a device's reply."""
    return RecordDict({RECORD: ConfigRecord({"body": body})})


def unpack_reply(message: Message) -> bytes:
    """Return the body of a reply. Whatever else a device, or Flower in its name, put there is refused, never read.

    Raises:
        FederationError: "federation.malformed".
    """
    body = _only_record(message, {"body"})["body"]
    if not isinstance(body, bytes) or len(body) > LARGEST_BODY:
        raise _malformed()
    return body


def _only_record(message: Message, keys: set[str]) -> ConfigRecord:
    if message.has_error() or not message.has_content():
        raise _malformed()
    content = message.content
    if list(content) != [RECORD]:
        raise _malformed()
    record = content[RECORD]
    if not isinstance(record, ConfigRecord) or set(record) != keys:
        raise _malformed()
    return record


def _malformed() -> FederationError:
    return FederationError("federation.malformed", "A message of Flower does not hold one action and one body of ours.")

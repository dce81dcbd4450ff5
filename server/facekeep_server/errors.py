"""What a server refuses, each with a stable code and an HTTP status. Codes and meanings: docs/formats/server-api.md."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from facekeep.clock import to_rfc3339
from facekeep.errors import AuditError, FacekeepError

# Code -> (HTTP status, meaning).
CODES: Final[dict[str, tuple[int, str]]] = {
    # request
    "request.malformed": (400, "The request is not of the form the interface describes."),
    "request.unauthenticated": (401, "No credential, an unknown one, or a signature that does not verify."),
    "request.clock_off": (401, "The request was signed too long ago or in the future; the answer says what time it is here."),
    "request.replayed": (401, "This very request was made before."),
    "request.forbidden": (403, "The credential is good but its role may not do this."),
    "request.not_found": (404, "There is nothing at this address."),
    "request.method_not_allowed": (405, "The address does not know this method."),
    "request.too_large": (413, "The content is larger than the server accepts."),
    "request.too_many": (429, "Too many requests; the answer says when to try again."),
    # device
    "device.invalid_code": (403, "The enrolment code is unknown, was used, has expired or was tried too often."),
    "device.key_in_use": (409, "This device key is enrolled already; a key belongs to one device."),
    "device.revoked": (403, "The device was revoked."),
    "device.unknown": (404, "No such device."),
    # submission
    "submission.foreign": (403, "The batch names another device than the one that signed the request."),
    "submission.equivocation": (409, "The log holds another entry of this device with the same number."),
    # revocation
    "revocation.invalid": (400, "Not a revocation list signed by an issuer that the server is configured with."),
    "revocation.older": (409, "A newer revocation list of this issuer was published already."),
    "revocation.fork": (409, "The issuer signed another revocation list of the same epoch."),
    "revocation.none": (404, "No revocation list of this issuer was published."),
    # proof
    "proof.beyond_size": (400, "The log is not that long."),
    "proof.no_such_entry": (404, "The log holds no such entry."),
    # server
    "server.unavailable": (503, "The store does not answer; nothing was acknowledged, try again."),
    "server.invalid_configuration": (500, "The configuration is not valid."),
    "server.no_key": (500, "The server has no usable key to sign checkpoints with."),
    "server.corrupt": (500, "What is stored does not lead to the head of the log."),
    "server.schema": (500, "The database has another schema than this version needs: run facekeep-server migrate."),
    "server.invalid_request": (400, "The options of a command do not go together."),
    "server.internal": (500, "The server failed; nothing was acknowledged."),
}

# What the SDK's checks of a submitted batch find, as HTTP sees it.
STATUS_OF: Final[dict[str, int]] = {
    "audit.invalid_entry": 400,
    "audit.invalid_event": 400,
    "audit.from_the_future": 400,
    "audit.bad_signature": 403,
    "audit.broken_chain": 409,
    "audit.wrong_sequence": 409,
    "trust.malformed": 401,
    "trust.bad_signature": 401,
}


class ServerError(FacekeepError):
    """A refusal of the server.

    Attributes:
        status: HTTP status that goes with the code.
        details: further members of the answer: numbers and instants only.
    """

    def __init__(self, code: str, message: str, **details: int | str | datetime) -> None:
        if code not in CODES:
            raise ValueError(f"{code!r} is not a code of the server")
        # Not FacekeepError.__init__, which knows the codes of a device only.
        Exception.__init__(self, message)
        self.code = code
        self.status = CODES[code][0]
        self.details = {key: to_rfc3339(value) if isinstance(value, datetime) else value for key, value in details.items()}

    def to_problem(self) -> dict[str, object]:
        """Return the members of the problem document (RFC 9457)."""
        return {
            "type": "about:blank",
            "title": CODES[self.code][1],
            "status": self.status,
            "detail": self.args[0],
            "code": self.code,
            **self.details,
        }


class OutOfSequenceError(AuditError):
    """A batch that does not continue the device's trail; tells the device where to go on.

    Attributes:
        details: `expected`, the number of the entry to submit next.
    """

    def __init__(self, message: str, expected: int) -> None:
        super().__init__("audit.wrong_sequence", message)
        self.details = {"expected": expected}

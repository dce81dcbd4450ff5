"""What goes in and out as JSON. Docs: docs/formats/server-api.md."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from facekeep_server.access.labels import PATTERN

Hash = Annotated[str, Field(description="SHA-256, standard base64", pattern=r"^[A-Za-z0-9+/]{43}=$")]
Device = Annotated[str, Field(description="first 32 hexadecimal digits of SHA-256 of the device's key", pattern="^[0-9a-f]{32}$")]
Instant = Annotated[str, Field(description="RFC 3339, UTC, milliseconds", pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")]
LARGEST_NUMBER = 2**53 - 1


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)


class Problem(BaseModel):
    """A refusal (RFC 9457). Further members: `expected`, `retry_after`, `server_time`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str


class EnrolmentRequest(_Model):
    """A device asks in."""

    code: str = Field(min_length=1, max_length=64)
    public_key: str = Field(description="Ed25519, standard base64", pattern=r"^[A-Za-z0-9+/]{43}=$")


class LineProof(_Model):
    """One line of the log and why it is in it."""

    number: int = Field(description="place in the log")
    path: list[Hash] = Field(description="audit path, the leaf's sibling first (RFC 9162 2.1.3.1)")


class EnrolmentAnswer(_Model):
    """A device is in."""

    device: Device
    line: LineProof
    checkpoint: str = Field(description="signed note")


class TrailState(_Model):
    """Where the log stands with a device's trail."""

    device: Device
    expected: int = Field(description="number of the entry to submit next")


class SubmissionAnswer(_Model):
    """A batch is in the log."""

    first: int = Field(description="number in the trail of the first entry")
    numbers: list[int] = Field(description="place in the log of each line of the batch, the head's last")
    expected: int = Field(description="number of the entry to submit next")
    proofs: list[LineProof] = Field(description="for each line, or for the head alone")
    checkpoint: str = Field(description="signed note over a tree that holds them all")


class ProofAnswer(_Model):
    """Hashes that prove something about the log."""

    path: list[Hash]


class LogKeyAnswer(_Model):
    """A key of the log."""

    vkey: str = Field(description="C2SP signed-note verifier key")
    created_at: Instant
    retires_at: Instant | None


class CodeRequest(_Model):
    """An administrator asks for an enrolment code."""

    label: str = Field(description="what to call the device; no person's name", pattern=PATTERN)
    hours: float | None = Field(default=None, gt=0, le=24 * 30, strict=False)


class CodeAnswer(_Model):
    """A code, shown this once."""

    code: str
    expires_at: Instant


class DeviceAnswer(_Model):
    """A device."""

    id: Device
    label: str
    enrolled_at: Instant
    revoked_at: Instant | None
    trail_size: int
    trail_time: Instant | None


class IncidentAnswer(_Model):
    """Something refused or changed."""

    id: int
    at: Instant
    code: str
    device: Device | None
    number: int | None
    evidence: bool = Field(description="whether lines signed by the device are kept")


class EntryAnswer(_Model):
    """A line of the log."""

    number: int
    device: Device
    line: str = Field(description="canonical JSON; docs/formats/log-entry.md")


class HeadAnswer(_Model):
    """A head that was committed."""

    size: int
    root: Hash
    committed_at: Instant


class RevocationAnswer(_Model):
    """A revocation list that was published."""

    issuer: str
    epoch: int
    entries: int
    issued_at: Instant
    next_update: Instant
    is_new: bool = Field(description="false if the very same list was published before")


class Health(_Model):
    """Whether the server can do its work."""

    status: str

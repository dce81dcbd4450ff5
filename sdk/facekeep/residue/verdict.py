"""What a scan found, and what that amounts to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from facekeep.errors import ErasureError


class Trace(StrEnum):
    """What was found."""

    NAME = "name"
    INDEX_TAG = "index-tag"
    WRAPPED_KEY = "wrapped-key"
    PROFILE = "profile"
    TEMPLATE = "template"
    FEATURES = "features"
    SAMPLE = "sample"
    SECRET = "secret"  # noqa: S105 - the word for one, not one
    STRAY_ENVELOPE = "stray-envelope"
    STRAY_KEYSTORE = "stray-keystore"
    DENSE_BLOB = "dense-blob"
    PICTURE = "picture"
    FREE_BYTES = "free-bytes"


# Ciphertext, and a keyed tag: of use only to whoever still has the key it was made under.
_SEALED = frozenset(
    {
        Trace.INDEX_TAG,
        Trace.WRAPPED_KEY,
        Trace.PROFILE,
        Trace.TEMPLATE,
        Trace.FEATURES,
        Trace.SAMPLE,
        Trace.STRAY_ENVELOPE,
    }
)


class Verdict(StrEnum):
    """What a scan amounts to."""

    CLEAN = "clean"
    SHUT = "shut"
    RESIDUE = "residue"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        store: the file, relative to what was scanned.
        trace: what it is.
        offset: where in the file, or in what was decoded from it.
        detail: how it was written or where in the file it lay, in words.
        is_shut: whether it is ciphertext in a copy beside which no keystore lies that could open it.
    """

    store: str
    trace: Trace
    offset: int
    detail: str
    is_shut: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            "store": self.store,
            "trace": self.trace.value,
            "offset": self.offset,
            "detail": self.detail,
            "is_shut": self.is_shut,
        }


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What a scan did and found.

    Attributes:
        files: number of files read.
        size_bytes: their size together.
        findings: what was found.
        unread: files that could not be read to their end, and why.
        not_searched: what could not be looked for, in words.
    """

    files: int
    size_bytes: int
    findings: tuple[Finding, ...]
    unread: tuple[tuple[str, str], ...]
    not_searched: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What it amounts to; what was found counts for more than what could not be read."""
        if any(not finding.is_shut for finding in self.findings):
            return Verdict.RESIDUE
        if self.unread:
            return Verdict.INCOMPLETE
        return Verdict.SHUT if self.findings else Verdict.CLEAN

    def require_complete(self) -> None:
        """Return if nothing is left, or nothing but ciphertext in other copies whose key is destroyed.

        Raises:
            ErasureError: "erasure.residue" or "erasure.incomplete".
        """
        if self.verdict is Verdict.RESIDUE:
            first = next(finding for finding in self.findings if not finding.is_shut)
            raise ErasureError(
                "erasure.residue",
                f"{len(self.findings)} trace(s) are left; the first is a {first.trace} in {first.store}. "
                "Delete those files, or replace them by copies made after the erasure.",
            )
        if self.verdict is Verdict.INCOMPLETE:
            store, reason = self.unread[0]
            raise ErasureError("erasure.incomplete", f"{len(self.unread)} file(s) could not be read: {store} ({reason}).")

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "verdict": self.verdict.value,
            "files": self.files,
            "bytes": self.size_bytes,
            "findings": [finding.to_json() for finding in self.findings],
            "unread": [{"store": store, "reason": reason} for store, reason in self.unread],
            "not_searched": list(self.not_searched),
        }


def is_sealed(trace: Trace) -> bool:
    """Return whether a trace is ciphertext."""
    return trace in _SEALED

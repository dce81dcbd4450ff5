"""What a device asks of a consent beyond the subject's yes: the controller's signature, fresh revocation lists.

A policy is a small TOML file (docs/formats/consent-policy.md), kept in the vault as canonical JSON. It can only add
conditions: what a record itself depends on holds under every policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Literal

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.consent.controller import find_proof
from facekeep.consent.forms import processing_fields, processing_of
from facekeep.consent.record import ConsentRecord, SignedConsent
from facekeep.consent.revocation import ListHead, good_until
from facekeep.consent.terms import Dependence, Processing
from facekeep.consent.verifier import VerifierKey
from facekeep.errors import ConsentError, TrustError

POLICY_VERSION: Final = "urn:facekeep:consent-policy:1"
_FIELDS = {"require_controller_signature", "controller_key", "processing", "revocation"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentPolicy:
    """What the gate of a device asks for.

    Attributes:
        require_controller_signature: whether a consent without the controller's verified signature allows nothing.
        controller_key: the controller's public key, or None.
        revocation_issuer: public key of whoever signs revocation lists, or None.
        revocation_max_age: ISO 8601 duration: how old the last word on a consent may be.
        revocation_covers: "stated": records say whether they depend on lists, and those made from now on do; "all": so does
            every other record.
        processing: what records made from now on say of the processing.
    """

    require_controller_signature: bool = False
    controller_key: VerifierKey | None = None
    revocation_issuer: VerifierKey | None = None
    revocation_max_age: str | None = None
    revocation_covers: Literal["stated", "all"] = "stated"
    processing: Processing = field(default_factory=Processing)

    def __post_init__(self) -> None:
        if not isinstance(self.require_controller_signature, bool) or self.revocation_covers not in ("stated", "all"):
            raise _invalid('require_controller_signature is true or false, and covers "stated" or "all"')
        if self.require_controller_signature and self.controller_key is None:
            raise _invalid("to ask for the controller's signature, name the controller's key")
        if (self.revocation_issuer is None) != (self.revocation_max_age is None):
            raise _invalid("revocation has an issuer and a max_age")
        if self.revocation_covers == "all" and self.revocation_issuer is None:
            raise _invalid("to make every consent depend on revocation lists, name their issuer")
        _ = self.dependence

    @property
    def dependence(self) -> Dependence | None:
        """What records made from now on depend on."""
        if self.revocation_issuer is None or self.revocation_max_age is None:
            return None
        return Dependence(self.revocation_issuer.name, self.revocation_max_age)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that a vault keeps."""
        revocation = None
        if self.revocation_issuer is not None:
            issuer = str(self.revocation_issuer)
            revocation = {"issuer": issuer, "max_age": self.revocation_max_age, "covers": self.revocation_covers}
        return to_canonical(
            {
                "schema_version": POLICY_VERSION,
                "require_controller_signature": self.require_controller_signature,
                "controller_key": str(self.controller_key) if self.controller_key else None,
                "processing": processing_fields(self.processing),
                "revocation": revocation,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> ConsentPolicy:
        """Return the policy of canonical bytes.

        Raises:
            ConsentError: "consent.corrupt".
        """
        return _parse_stored(data)

    @classmethod
    def parse_toml(cls, text: str) -> ConsentPolicy:
        """Return the policy of a TOML file.

        Raises:
            ConsentError: "consent.invalid_request". TrustError: "trust.malformed" for a key.
        """
        # Imported here: only whoever sets a policy reads TOML.
        import tomllib

        try:
            return cls._of(tomllib.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _invalid(f"it is not the TOML file expected ({type(error).__name__})") from None

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> ConsentPolicy:
        if not fields.keys() <= _FIELDS:
            raise _invalid(f"it has fields other than {', '.join(sorted(_FIELDS))}")
        revocation = fields.get("revocation") or {}
        if not revocation.keys() <= {"issuer", "max_age", "covers"}:
            raise _invalid("[revocation] has issuer, max_age and covers")
        key, issuer = fields.get("controller_key"), revocation.get("issuer")
        return cls(
            require_controller_signature=fields.get("require_controller_signature", False),
            controller_key=VerifierKey.parse(key) if key is not None else None,
            revocation_issuer=VerifierKey.parse(issuer) if issuer is not None else None,
            revocation_max_age=revocation.get("max_age"),
            revocation_covers=revocation.get("covers", "stated"),
            processing=processing_of(fields.get("processing", {})),
        )

    def dependences(self, record: ConsentRecord) -> tuple[Dependence, ...]:
        """Return on whose lists a record depends: what it says itself, and what this policy adds."""
        added = self.dependence if self.revocation_covers == "all" else None
        return tuple(item for item in dict.fromkeys((record.dependence, added)) if item is not None)

    def good_until(self, record: ConsentRecord, head_of: Callable[[str], ListHead | None]) -> datetime | None:
        """Return the first instant at which a record needs a fresher revocation list, or None if it depends on none.

        Args:
            record: the record in force.
            head_of: name of an issuer -> the newest list seen, or None.
        """
        ends = [good_until(record.recorded_at, item.max_age, head_of(item.issuer)) for item in self.dependences(record)]
        return min(ends, default=None)

    def require(
        self,
        record: ConsentRecord,
        signed: SignedConsent,
        *,
        device_key: bytes,
        now: datetime,
        head_of: Callable[[str], ListHead | None],
    ) -> datetime | None:
        """Return until when the record in force meets this policy, or None for as long as it is valid.

        Raises:
            ConsentError: "consent.not_countersigned", "consent.revocation_stale", "consent.corrupt".
        """
        if self.require_controller_signature and (
            self.controller_key is None or find_proof(signed, self.controller_key, device_key) is None
        ):
            raise ConsentError(
                "consent.not_countersigned",
                "The policy asks for the controller's signature and this consent has none that verifies. Have it countersigned.",
            )
        end = self.good_until(record, head_of)
        if end is not None and now >= end:
            raise ConsentError(
                "consent.revocation_stale",
                "This consent depends on revocation lists and no fresh one has been seen. Import the newest one.",
            )
        return end


# The gate asks at every call; a policy is immutable, and errors are not remembered.
@lru_cache(maxsize=8)
def _parse_stored(data: bytes) -> ConsentPolicy:
    try:
        fields = parse_canonical(data)
        if fields.pop("schema_version") != POLICY_VERSION:
            raise ValueError("unknown version")
        return ConsentPolicy._of(fields)
    except (ValueError, KeyError, TypeError, AttributeError, ConsentError, TrustError):
        raise ConsentError("consent.corrupt", "The consent policy in the vault is not readable; nothing is allowed.") from None


def _invalid(why: str) -> ConsentError:
    return ConsentError("consent.invalid_request", f"The consent policy cannot be used: {why}.")

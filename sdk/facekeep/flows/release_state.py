"""Which release a device uses, which it used before, and which it refused for good: one setting of the vault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.errors import VaultError
from facekeep.flows.workshop import STATE_SETTING
from facekeep.protocol.release import ModelRelease
from facekeep.protocol.values import require_digest, require_whole
from facekeep.vault import VaultTransaction

_MOST_KEPT: Final = 1000


@dataclass(frozen=True, slots=True)
class KeptRelease:
    """A release whose files are on the device.

    Attributes:
        digest: of the release.
        version: of the release.
        parent: digest of the release it continues, or "" for the model that shipped.
        model: SHA-256 of its model file.
        contract: of the embeddings it makes.
    """

    digest: str
    version: int
    parent: str
    model: str
    contract: str

    def __post_init__(self) -> None:
        for text in (self.digest, self.model, self.contract, *([self.parent] if self.parent else [])):
            require_digest(text)
        require_whole("version", self.version, 1, 1 << 40)

    @classmethod
    def of(cls, release: ModelRelease) -> KeptRelease:
        """Return what is kept of an accepted release."""
        return cls(release.digest, release.version, release.parent or "", release.model, release.contract)

    def to_value(self) -> list[str | int]:
        """Return the fields in order."""
        return [self.digest, self.version, self.parent, self.model, self.contract]


@dataclass(frozen=True, slots=True)
class ReleaseState:
    """Where a device stands.

    Attributes:
        detector: "pack/build" that the releases were adopted over; "" before the first.
        embedder: likewise.
        origin: contract of the models that shipped; "" before the first.
        active: digest of the release in use, or "" for the model that shipped.
        refused: highest version that was refused for good.
        kept: releases whose files are here, oldest first.
    """

    detector: str = ""
    embedder: str = ""
    origin: str = ""
    active: str = ""
    refused: int = 0
    kept: tuple[KeptRelease, ...] = ()

    @property
    def in_use(self) -> KeptRelease | None:
        """The release in use, or None for the model that shipped."""
        return self.find(self.active)

    @property
    def version(self) -> int:
        """Version of the release in use; 0 for the model that shipped."""
        return self.in_use.version if self.in_use else 0

    @property
    def contract(self) -> str:
        """Contract of the model in use."""
        return self.in_use.contract if self.in_use else self.origin

    def find(self, digest: str) -> KeptRelease | None:
        """Return a kept release, or None."""
        return next((item for item in self.kept if item.digest == digest), None)

    def is_over(self, detector: str | None, embedder: str | None) -> bool:
        """Whether the releases were adopted over these packs and builds: over others they mean nothing."""
        return bool(self.embedder) and (self.detector, self.embedder) == (detector, embedder)

    def with_adopted(self, release: KeptRelease, needed: Sequence[str]) -> ReleaseState:
        """Return the state with a release in use, keeping it, the one before it, and those of the contracts in `needed`."""
        stays = [item for item in self.kept if item.digest in (self.active, release.parent) or item.contract in needed]
        return replace(self, active=release.digest, kept=(*(item for item in stays if item.digest != release.digest), release))

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that the vault keeps."""
        return to_canonical(
            {
                "v": 1,
                "detector": self.detector,
                "embedder": self.embedder,
                "origin": self.origin,
                "active": self.active,
                "refused": self.refused,
                "kept": [item.to_value() for item in self.kept],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> ReleaseState:
        """Return the state of `to_bytes`.

        Raises:
            VaultError: "vault.corrupt", or "vault.newer_version".
        """
        try:
            fields: dict[str, Any] = parse_canonical(data)
            if fields.pop("v") != 1:
                raise VaultError("vault.newer_version", "The release state was written by a newer Facekeep. Update.")
            kept = tuple(KeptRelease(*item) for item in fields.pop("kept")[:_MOST_KEPT])
            state = cls(**fields, kept=kept)
            if state.to_bytes() != data or (state.active and state.in_use is None):
                raise ValueError("not a state")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise VaultError("vault.corrupt", "The record of the releases of this device is not readable.") from None
        return state


def read_release_state(transaction: VaultTransaction) -> ReleaseState | None:
    """Return where the device stands, or None if it never adopted a release or refused one for good.

    Raises:
        VaultError: "vault.corrupt", "vault.newer_version".
    """
    stored = transaction.read_setting(STATE_SETTING)
    return ReleaseState.parse(stored) if stored else None


def write_release_state(transaction: VaultTransaction, state: ReleaseState) -> None:
    """Keep where the device stands."""
    transaction.write_setting(STATE_SETTING, state.to_bytes())

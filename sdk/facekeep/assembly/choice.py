"""Which packs a device uses, as its vault keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.errors import VaultError


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which packs a device uses, each as "pack" or "pack/build". Kept in the vault once it is complete.

    Attributes:
        detector: detection pack, or None for the best installed.
        embedder: embedding pack, or None for the best installed.
        pads: packs for presentation attack detection, all of which have to agree.
    """

    detector: str | None
    embedder: str | None
    pads: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """Return canonical JSON."""
        return to_canonical({"v": 1, "detector": self.detector, "embedder": self.embedder, "pads": list(self.pads)})

    @classmethod
    def parse(cls, data: bytes) -> ModelChoice:
        """Return the choice that `to_bytes` wrote.

        Raises:
            VaultError: "vault.corrupt", or "vault.newer_version".
        """
        try:
            fields = parse_canonical(data)
            if fields["v"] != 1:
                raise VaultError("vault.newer_version", "The models of this vault were chosen by a newer Facekeep. Update.")
            return cls(fields["detector"], fields["embedder"], tuple(fields["pads"]))
        except (ValueError, KeyError, TypeError):
            raise VaultError("vault.corrupt", "The record of the models this vault uses is not readable.") from None

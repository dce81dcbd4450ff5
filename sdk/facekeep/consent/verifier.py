"""Public keys as text: the `vkey` of C2SP signed notes, one line that names a key and is the key.

Source: https://c2sp.org/signed-note#verifier-keys
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from facekeep.errors import TrustError
from facekeep.note import key_id, verifier_key
from facekeep.signing import key_fingerprint

_ED25519 = b"\x01"
_LONGEST_TEXT = 512


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public Ed25519 key and its name.

    Attributes:
        name: no white space and no plus sign.
        public_key: 32 bytes.
    """

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        is_named = bool(self.name) and self.name.isprintable() and not any(c.isspace() or c == "+" for c in self.name)
        if not is_named or len(self.name) > 256 or len(self.public_key) != 32:
            raise TrustError("trust.malformed", "A verifier key is a name without white space or plus sign, and 32 bytes.")

    def __str__(self) -> str:
        return verifier_key(self.name, self.public_key)

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Return the key of a `vkey` line.

        Raises:
            TrustError: "trust.malformed".
        """
        parts = text.strip().split("+", 2)
        try:
            if len(text) > _LONGEST_TEXT or len(parts) != 3:
                raise ValueError
            key = base64.b64decode(parts[2], validate=True)
            found = cls(parts[0], key[1:])
            # The hash in the line finds a key that was copied wrong, or under another's name.
            if key[:1] != _ED25519 or key_id(found.name, found.public_key).hex() != parts[1] or str(found) != text.strip():
                raise ValueError
        except (ValueError, binascii.Error):
            raise TrustError(
                "trust.malformed", "A verifier key is written NAME+HASH+KEY, as `facekeep status` prints it."
            ) from None
        return found

    @classmethod
    def of_device(cls, public_key: bytes) -> VerifierKey:
        """Return the key of a device, under the name that its trail has too."""
        return cls(f"facekeep.device/{key_fingerprint(public_key)}", public_key)

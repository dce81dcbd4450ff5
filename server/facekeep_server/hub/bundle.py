"""The Flower App Bundle (FAB): built from a template of this package, the same bytes each time, and signed.

Signature: Ed25519 over eight bytes of time (big-endian seconds) and SHA-256 of the bundle, as `flwr.supernode` verifies it
(flwr 1.41, `supercore/primitives/asymmetric_ed25519.py`, `create_message_to_sign`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Any, Final

from facekeep.errors import TrustError
from facekeep.signing import DeviceKey, verify_raw
from facekeep_server.errors import ServerError

PUBLISHER: Final = "facekeep"
APP_NAME: Final = "facekeep-rounds"
APP_ID: Final = f"@{PUBLISHER}/{APP_NAME}"
PACKAGE: Final = "facekeep_rounds"
# Raised whenever the shim changes: a SuperLink keeps an app it fetched without a version for ever, so runs name one.
APP_VERSION: Final = "1.0.0"
# The name under which SuperNodes know the key; ids of Flower begin so.
KEY_ID: Final = "fpk_facekeep"
_KEY_ID = re.compile(r"[A-Za-z0-9_\-]{1,64}")
_VERSION: Final = "urn:facekeep:signed-app:1"


@dataclass(frozen=True, slots=True)
class SignedApp:
    """A bundle and what vouches for it.

    Attributes:
        fab: the bundle, a zip.
        version: of the app.
        key_id: name of the key in --trusted-entities.
        signed_at: seconds since 1970, part of what is signed.
        signature: 64 bytes, Ed25519.
    """

    fab: bytes
    version: str
    key_id: str
    signed_at: int
    signature: bytes

    def __post_init__(self) -> None:
        if not _KEY_ID.fullmatch(self.key_id) or len(self.signature) != 64 or not 0 < self.signed_at < 2**40:
            raise ValueError("a signed app has the name of a key, a time and a 64-byte signature")

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the bundle, by which SuperLink and SuperNodes name it."""
        return hashlib.sha256(self.fab).hexdigest()

    def verify(self, public_key: bytes) -> None:
        """Return if the holder of `public_key` signed this bundle.

        Raises:
            TrustError: "trust.bad_signature".
        """
        verify_raw(public_key, signed_bytes(self.fab, self.signed_at), self.signature)

    def to_verification(self) -> dict[str, Any]:
        """Return the entry of "verifications" in a hub's answer."""
        text = base64.urlsafe_b64encode(self.signature).decode().rstrip("=")
        return {"public_key_id": self.key_id, "signature": text, "signed_at": self.signed_at}

    def to_bytes(self) -> bytes:
        """Return the file that is kept beside the bundle."""
        value = {"schema": _VERSION, "app": APP_ID, "version": self.version, "sha256": self.sha256, **self.to_verification()}
        return (json.dumps(value, indent=1) + "\n").encode()

    @classmethod
    def parse(cls, statement: bytes, fab: bytes) -> SignedApp:
        """Return the app of a bundle and the file beside it; `verify` says whether the signature holds.

        Raises:
            TrustError: "trust.malformed".
        """
        try:
            fields = json.loads(statement)
            signature = base64.urlsafe_b64decode(fields["signature"] + "==")
            found = cls(fab, str(fields["version"]), fields["public_key_id"], fields["signed_at"], signature)
            if fields["schema"] != _VERSION or fields["app"] != APP_ID or fields["sha256"] != found.sha256:
                raise ValueError
        except (ValueError, KeyError, TypeError, binascii.Error):
            raise TrustError("trust.malformed", "The statement beside the app is malformed, or about another app.") from None
        return found


def build_app() -> bytes:
    """Return the bundle of this version: the same bytes on every machine, so that anyone can build what was signed.

    Raises:
        ServerError: "server.invalid_configuration" where Flower is not installed.
    """
    try:
        from flwr.cli.build import build_fab_from_files
    except ImportError:
        raise ServerError("server.invalid_configuration", "This takes Flower: pip install 'facekeep[federated]'.") from None
    template = resources.files("facekeep_server.hub") / "app"
    files: dict[str, Any] = {
        "pyproject.toml": (template / "pyproject.toml.txt").read_bytes().replace(b"VERSION", APP_VERSION.encode()),
        "LICENSE": (template / "LICENSE").read_bytes(),
        f"{PACKAGE}/__init__.py": b"",
        f"{PACKAGE}/client.py": (template / "client.py.txt").read_bytes(),
        f"{PACKAGE}/server.py": (template / "server.py.txt").read_bytes(),
    }
    fab, _ = build_fab_from_files(files)
    return fab


def sign_app(fab: bytes, key: DeviceKey, now: datetime, key_id: str = KEY_ID) -> SignedApp:
    """Return the bundle, signed."""
    seconds = int(now.timestamp())
    # A plain signature, without a domain: the form is Flower's.
    return SignedApp(fab, APP_VERSION, key_id, seconds, key.sign_note(signed_bytes(fab, seconds)))


def signed_bytes(fab: bytes, signed_at: int) -> bytes:
    """Return what a signature of a bundle is over."""
    return signed_at.to_bytes(8, "big") + hashlib.sha256(fab).digest()


def trusted_entities(public_key: bytes, key_id: str = KEY_ID) -> str:
    """Return the YAML file that a SuperNode's --trusted-entities names."""
    return f"{key_id}: {ssh_public_key(public_key)}\n"


def ssh_public_key(public_key: bytes) -> str:
    """Return an Ed25519 public key in OpenSSH's spelling (RFC 8709)."""
    kind = b"ssh-ed25519"
    blob = len(kind).to_bytes(4, "big") + kind + len(public_key).to_bytes(4, "big") + public_key
    return f"{kind.decode()} {base64.b64encode(blob).decode()}"

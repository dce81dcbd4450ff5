"""Keys of a federation as files: Ed25519 in PKCS#8 PEM, and the SuperNodes' ECDSA P-384 in OpenSSH's form, as Flower reads it."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from facekeep.signing import DeviceKey
from facekeep_server.errors import ServerError
from facekeep_server.federation.files import create_file, read_private


def create_signing_key(path: Path) -> DeviceKey:
    """Make an Ed25519 key; it is on the disk before this returns.

    Raises:
        ServerError: "server.invalid_configuration" if there is a file already.
    """
    key = Ed25519PrivateKey.generate()
    create_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return DeviceKey(key.private_bytes_raw())


def load_signing_key(path: Path) -> DeviceKey:
    """Return the key of a file.

    Raises:
        ServerError: "server.no_key".
    """
    try:
        key = load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError):
        raise ServerError("server.no_key", f"{path.name} is not an unencrypted PKCS#8 PEM.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ServerError("server.no_key", f"{path.name} is not an Ed25519 key.")
    return DeviceKey(key.private_bytes_raw())


def create_node_key(path: Path) -> bytes:
    """Make the key by which a SuperNode proves who it is, and its public half beside it (".pub"); return that line.

    Raises:
        ServerError: "server.invalid_configuration".
    """
    key = ec.generate_private_key(ec.SECP384R1())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"
    create_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    create_file(path.with_name(f"{path.name}.pub"), public, mode=0o644)
    return public

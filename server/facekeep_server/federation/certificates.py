"""A certification authority of the federation's own, and the SuperLink's certificate: ECDSA P-384, no name of a person in it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from facekeep_server.errors import ServerError

AUTHORITY_DAYS: Final = 3_650
SERVER_DAYS: Final = 398  # https://cabforum.org/working-groups/server/baseline-requirements/ 6.3.2: what clients still accept
_BACKDATED: Final = timedelta(hours=1)  # a device whose clock is a little behind


def make_authority(name: str, now: datetime) -> tuple[bytes, bytes]:
    """Return certificate and private key, PEM, of a new authority that may certify servers and nothing below itself."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = _name(f"{name} certification authority")
    certificate = (
        _builder(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certifies=True), critical=True)
        .sign(key, hashes.SHA384())
    )
    return certificate.public_bytes(Encoding.PEM), _private_pem(key)


def make_server_certificate(authority: bytes, authority_key: bytes, hosts: Sequence[str], now: datetime) -> tuple[bytes, bytes]:
    """Return certificate and private key, PEM, of a server reachable under `hosts`, names and addresses.

    Raises:
        ServerError: "server.no_key" if the authority's key does not read, "server.invalid_request" for no host.
    """
    if not hosts:
        raise ServerError("server.invalid_request", "A server certificate is for at least one host.")
    issuer = x509.load_pem_x509_certificate(authority)
    try:
        issuer_key = load_pem_private_key(authority_key, password=None)
    except (ValueError, TypeError):
        raise ServerError("server.no_key", "The key of the certification authority is not an unencrypted PKCS#8 PEM.") from None
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey) or issuer_key.public_key() != issuer.public_key():
        raise ServerError("server.no_key", "The key is not that of the certification authority.")
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = (
        _builder(_name(hosts[0]), issuer.subject, key.public_key(), now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certifies=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA384())
    )
    return certificate.public_bytes(Encoding.PEM), _private_pem(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certifies,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certifies,
        crl_sign=certifies,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

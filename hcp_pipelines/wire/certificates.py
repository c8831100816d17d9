"""A small certificate authority for gateways and their clients: made, signed and looked at here. Use is in `channels.py`.

Keys are ECDSA on P-256, files of mode 0600. What a client may do is in its certificate as a URI. Whoever has a CA of their own
needs none of this: the same files from there do.
Source: RFC 5280 (extensions), RFC 6125 (names).
"""

import ipaddress
import os
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError

ROLE_URI = "hcp:role:"
ROLES = ("allocator", "operator", "reader", "collector")  # of who may call a gateway
CA_DAYS, LEAF_DAYS = 3650, 397
_EARLIER = timedelta(minutes=5)  # clocks that are a little behind
_Key = ec.EllipticCurvePrivateKey


def make_authority(folder: Path) -> None:
    """`ca.crt` and `ca.key` in a folder."""
    key, name = ec.generate_private_key(ec.SECP256R1()), _name("hcp certificate authority")
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        _builder(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    _write_pair(folder, "ca", builder.sign(key, hashes.SHA256()), key)


def issue(
    folder: Path,
    name: str,
    *,
    role: str = "",
    hosts: Sequence[str] = (),
    days: float = LEAF_DAYS,
    now: datetime | None = None,
) -> None:
    """`NAME.crt` and `NAME.key`, signed by the folder's CA: for a client with a role, or for a gateway at hosts.

    Raises:
        ConfigError: the folder has no CA that can sign.
    """
    authority, signing = _load(folder / "ca.crt"), _load_key(folder / "ca.key")
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [_host(host) for host in hosts]
    names += [x509.UniformResourceIdentifier(f"{ROLE_URI}{role}")] if role else []
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH if role else ExtendedKeyUsageOID.SERVER_AUTH
    builder = (
        _builder(_name(f"hcp {name}"), authority.subject, key.public_key(), days, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    _write_pair(folder, name, builder.sign(signing, hashes.SHA256()), key)


def check_certificate(certificate: Path, authority: Path) -> None:
    """Look at one's own certificate before it is shown: a peer that refuses it says little.

    Raises:
        ConfigError: it can't be read, is of another CA, or its time is over; the message says what to do.
    """
    own, ca, now = _load(certificate), _load(authority), SystemClock().real_now()
    if not own.not_valid_before_utc <= now < own.not_valid_after_utc:
        raise ConfigError(
            f"{certificate} is valid from {own.not_valid_before_utc:%Y-%m-%d %H:%M} to {own.not_valid_after_utc:%Y-%m-%d %H:%M} "
            f"UTC, it is {now:%Y-%m-%d %H:%M}: `hcp tls renew`, then restart"
        )
    try:
        own.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        raise ConfigError(f"{certificate} was not signed by {authority}: take both from one `hcp tls init`") from None


def expires_at(certificate: Path) -> datetime:
    """Until when a certificate is valid.

    Raises:
        ConfigError: it can't be read.
    """
    return _load(certificate).not_valid_after_utc


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float, now: datetime | None = None
) -> x509.CertificateBuilder:
    begins_at = (now or SystemClock().real_now()) - _EARLIER
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins_at)
        .not_valid_after(begins_at + _EARLIER + timedelta(days=days))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _load(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no certificate can be read there ({error}); `hcp tls init` makes them") from None


def _load_key(path: Path) -> _Key:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: no key can be read there ({error}); `hcp tls init` makes one") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path}: an elliptic-curve key is expected; `hcp tls init` makes one")
    return key


def _write_pair(folder: Path, name: str, certificate: x509.Certificate, key: _Key) -> None:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(folder / f"{name}.key", private)
    _write(folder / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _write(path: Path, content: bytes) -> None:
    """The whole file or nothing, with mode 0600."""
    fd, fresh = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    Path(fresh).replace(path)

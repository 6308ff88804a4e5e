"""A certificate authority of this machine's own, and the server certificate it signs.

For networks without a public authority: a client that is given `ca.pem` trusts this server and no other. Keys are
P-256, readable by their owner alone. The authority stays for ten years, so that clients keep their `ca.pem`; the
server's certificate is made anew before it ends, or when the names it has to hold change. Knows no socket.
"""

import contextlib
import datetime
import os
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
SERVER_DAYS = 397
"""The longest that Apple's and Google's clients take."""

RENEW_DAYS = 30

_CLOCK_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """Where the parts lie."""

    ca: Path
    """What clients have to trust."""
    chain: Path
    key: Path


def issue(folder: Path, names: set[str]) -> Certificate:
    """A server certificate for these names and addresses; made, renewed or found in `folder`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = Certificate(ca=folder / "ca.pem", chain=folder / "server.pem", key=folder / "server.key")
    authority_key = _key(folder / "ca.key")
    authority = _authority(made.ca, authority_key)
    if not _usable(made, authority, names):
        _sign(made, authority, authority_key, names)
    return made


def own_names(host: str) -> set[str]:
    """Names and addresses under which a server that listens on `host` can be reached."""
    names = {"localhost", "127.0.0.1", "::1", socket.gethostname(), host} - {"0.0.0.0", "::"}  # noqa: S104 - compared
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        with contextlib.suppress(OSError):
            names |= {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    return {name.partition("%")[0] for name in names}


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The private key in a file; made if it isn't there."""
    with contextlib.suppress(FileNotFoundError):
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    return key


def _authority(path: Path, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    with contextlib.suppress(FileNotFoundError):
        return x509.load_pem_x509_certificate(path.read_bytes())
    name = _name(f"Finery on {socket.gethostname()}")
    certificate = (
        _builder(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate


def _usable(made: Certificate, authority: x509.Certificate, names: set[str]) -> bool:
    if not (made.chain.exists() and made.key.exists()):
        return False
    certificate = x509.load_pem_x509_certificates(made.chain.read_bytes())[0]
    try:
        certificate.verify_directly_issued_by(authority)
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return left > datetime.timedelta(days=RENEW_DAYS) and set(held) >= set(_alternatives(names))


def _sign(
    made: Certificate, authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey, names: set[str]
) -> None:
    key = _key(made.key)
    certificate = (
        _builder(_name("Finery"), authority.subject, key.public_key(), SERVER_DAYS)
        .add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    made.chain.write_bytes(certificate.public_bytes(pem) + authority.public_bytes(pem))


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternatives(names: set[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in sorted(names):
        try:
            found.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found

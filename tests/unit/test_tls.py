"""The machine's own certificate authority: who trusts it trusts the server, and nobody else reads its keys."""

import datetime
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509

from finery import tls
from finery.tls import Certificate

NAMES = {"localhost", "127.0.0.1", "::1", "box.example"}


def shake_hands(made: Certificate, trust: Path, name: str) -> None:
    """A TLS handshake over a socket pair, as a client that trusts `trust` and asks for `name`."""
    ours, theirs = socket.socketpair()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.chain, made.key)

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ssl.create_default_context(cafile=str(trust)).wrap_socket(ours, server_hostname=name):
            pass
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_client_that_trusts_the_authority_trusts_the_server(tmp_path: Path, name: str) -> None:
    made = tls.issue(tmp_path, NAMES)
    shake_hands(made, made.ca, name)


def test_others_dont(tmp_path: Path) -> None:
    made = tls.issue(tmp_path / "ours", NAMES)
    other = tls.issue(tmp_path / "other", NAMES)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(made, other.ca, "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(made, made.ca, "elsewhere.example")


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    tls.issue(tmp_path / "tls", NAMES)
    for key in ("ca.key", "server.key"):
        assert (tmp_path / "tls" / key).stat().st_mode & 0o777 == 0o600


def test_the_certificate_stays_until_it_has_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tls.issue(tmp_path, NAMES)
    ca, chain = first.ca.read_bytes(), first.chain.read_bytes()
    assert tls.issue(tmp_path, NAMES - {"box.example"}).chain.read_bytes() == chain
    more = tls.issue(tmp_path, {*NAMES, "new.example"})
    assert more.chain.read_bytes() != chain
    assert more.ca.read_bytes() == ca
    chain = more.chain.read_bytes()
    monkeypatch.setattr(tls, "RENEW_DAYS", tls.SERVER_DAYS + 1)
    renewed = tls.issue(tmp_path, NAMES)
    assert renewed.chain.read_bytes() != chain
    assert renewed.ca.read_bytes() == ca
    assert _days(renewed) == tls.SERVER_DAYS - 1


def test_an_address_for_everyone_is_no_name() -> None:
    assert {"localhost", "127.0.0.1", socket.gethostname()} <= tls.own_names("0.0.0.0")
    assert "0.0.0.0" not in tls.own_names("0.0.0.0")
    assert "box.example" in tls.own_names("box.example")


def _days(made: Certificate) -> int:
    certificate = x509.load_pem_x509_certificates(made.chain.read_bytes())[0]
    return (certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days

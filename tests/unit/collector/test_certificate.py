"""A renewed certificate serves new connections; an unusable one leaves the last one in place."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from truepixel_dagster.collector.certificate import Certificate

AUTHORITY = trustme.CA()


def write(folder: Path, name: str) -> None:
    issued = AUTHORITY.issue_cert(name)
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "certificate.pem").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))


def served(context: ssl.SSLContext) -> str:
    """Return the name in the certificate that a client of this context sees, by a handshake in memory."""
    client_context = ssl.create_default_context()
    client_context.check_hostname = False
    AUTHORITY.configure_trust(client_context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    certificate = client.getpeercert()
    assert certificate
    return str(certificate["subjectAltName"][0][1])


def test_a_renewed_certificate_is_loaded_and_an_unusable_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "first.example")
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    certificate = Certificate(*files)
    certificate.refresh(context)
    assert served(context) == "first.example"
    write(tmp_path, "second.example")
    certificate.refresh(context)
    assert served(context) == "second.example"
    # The certificate is new, and the key is still the old one.
    old_key = files[1].read_bytes()
    write(tmp_path, "third.example")
    new_key = files[1].read_bytes()
    files[1].write_bytes(old_key)
    certificate.refresh(context)
    certificate.refresh(context)
    assert served(context) == "second.example"
    assert [message for message in caplog.messages if "stays in use" in message] == caplog.messages[-1:]
    files[1].write_bytes(new_key)
    certificate.refresh(context)
    assert served(context) == "third.example"
    files[0].unlink()
    certificate.refresh(context)
    assert served(context) == "third.example"


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(tmp_path: Path) -> None:
    write(tmp_path, "locked.example")
    key = tmp_path / "key.pem"
    plain = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"a passphrase"),
        )
    )
    with pytest.raises(ssl.SSLError):
        Certificate(tmp_path / "certificate.pem", key).check()

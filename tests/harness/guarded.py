"""A broker that asks who is there: a user name and a password, over TLS where wanted, with an authority of its own."""

import ipaddress
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.local.servers import kafka
from tests.harness.servers import free_ports
from tests.harness.wait import poll_until

_LISTENER = """\
listeners={security}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners={security}://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,{security}:{security}
inter.broker.listener.name={security}
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.enabled.mechanisms=PLAIN
listener.name.{listener}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
username="lepton" password="{password}" user_lepton="{password}";
"""
_TLS = """\
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/authority.pem
"""


@dataclass(frozen=True, slots=True)
class Guarded:
    """`bootstrap` is host:port; `ca_file` holds the authority's certificate where the broker speaks TLS."""

    bootstrap: str
    security: str
    password: str
    ca_file: Path | None


@contextmanager
def guarded_kafka(directory: Path, password: str, *, tls: bool) -> Iterator[Guarded]:
    """Such a broker, for the user `lepton`, while the block runs."""
    port, controller_port = free_ports(2)
    security = "SASL_SSL" if tls else "SASL_PLAINTEXT"
    config = kafka.configure(directory, port, controller_port)
    text = config.read_text() + _LISTENER.format(security=security, listener=security.lower(), port=port,
                                                 controller_port=controller_port, password=password)
    ca_file = None
    if tls:
        ca_file = make_authority(directory, "broker")
        text += _TLS.format(folder=directory)
    config.write_text(text)
    process = subprocess.Popen(kafka.command(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        poll_until((lambda: _speaks_tls(port, ca_file)) if tls else (lambda: kafka.answers(port)),
                   "the guarded broker", 60)
        yield Guarded(f"127.0.0.1:{port}", security, password, ca_file)
    finally:
        process.terminate()
        process.wait(30)


def make_authority(directory: Path, name: str) -> Path:
    """A new authority's certificate, `authority.pem`, and beside it key and certificate of `name` at 127.0.0.1."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    authority = _certificate(issuer, issuer, authority_key, authority_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True).add_extension(
        x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False).add_extension(
        x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
                      key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
                      decipher_only=False), critical=True).sign(authority_key, hashes.SHA256())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = _certificate(subject, issuer, key, authority_key).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False).sign(
        authority_key, hashes.SHA256())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                serialization.NoEncryption())
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.pem").write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    ca_file = directory / "authority.pem"
    ca_file.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    return ca_file


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey,
                 signer: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(
        key.public_key()).serial_number(x509.random_serial_number()).not_valid_before(
        now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))


def _speaks_tls(port: int, ca_file: Path | None) -> bool:
    context = ssl.create_default_context(cafile=ca_file)
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as plain, \
                context.wrap_socket(plain, server_hostname="127.0.0.1"):
            return True
    except OSError:
        return False

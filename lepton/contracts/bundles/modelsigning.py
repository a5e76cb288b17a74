"""Signatures in the format of OpenSSF's model-signing 1.0: a Sigstore bundle around an in-toto statement of digests.

The format knows no Ed25519, so each identity has a second key on NIST P-256, derived from its first by HKDF (RFC 5869):
there is nothing more to keep, and whoever has the first key has both. Manifests name its public half, so trust in the
Ed25519 key is trust in this one. Written with `cryptography` alone; the tests verify with the format's own library.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lepton.contracts.signing import Identity
from lepton.errors import Refused

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order of P-256 (FIPS 186-5): private keys are 1 to this less 1."""
_PAYLOAD = "application/vnd.in-toto+json"
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_STATEMENT, _PREDICATE = "https://in-toto.io/Statement/v1", "https://model_signing/signature/v1.0"


def private_key_of(identity: Identity) -> ec.EllipticCurvePrivateKey:
    # 16 bytes more than the order has, so that the remainder is as good as uniform (FIPS 186-5, A.2.1).
    stretched = HKDF(hashes.SHA256(), 48, None, b"lepton model-signing P-256").derive(
        identity.private.private_bytes_raw())
    return ec.derive_private_key(int.from_bytes(stretched, "big") % (_ORDER - 1) + 1, ec.SECP256R1())


def public_key_of(identity: Identity) -> bytes:
    """DER (SubjectPublicKeyInfo), as a manifest's `model_signing_key` holds it."""
    return private_key_of(identity).public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def pem(public_key: bytes) -> bytes:
    """The key as model-signing reads it. Raises Refused for what is no key on P-256."""
    return _loaded(public_key).public_bytes(serialization.Encoding.PEM,
                                            serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(identity: Identity, name: str, files: Mapping[str, bytes]) -> bytes:
    """A signature over a folder's files, by their paths in it."""
    payload = _statement(name, files)
    signature = private_key_of(identity).sign(_enveloped(payload), ec.ECDSA(hashes.SHA256()))
    return _written(payload, signature, pem(public_key_of(identity)))


def verify(public_key: bytes, name: str, files: Mapping[str, bytes], signed: bytes) -> None:
    """Raises Refused unless the key's owner signed exactly these files, and `signed` is as it was written."""
    payload = _statement(name, files)
    try:
        told: Any = json.loads(signed)
        signature = base64.b64decode(told["dsseEnvelope"]["signatures"][0]["sig"], validate=True)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise _refused("the signature in model-signing's format is unreadable") from error
    try:
        _loaded(public_key).verify(signature, _enveloped(payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise _refused("the files are not those that were signed") from error
    if _written(payload, signature, pem(public_key)) != signed:
        raise _refused("the signature in model-signing's format is not as it was written")


def _statement(name: str, files: Mapping[str, bytes]) -> bytes:
    digests = {file: hashlib.sha256(files[file]) for file in sorted(files)}
    root = hashlib.sha256(b"".join(digest.digest() for digest in digests.values())).hexdigest()
    statement = {
        "_type": _STATEMENT, "subject": [{"name": name, "digest": {"sha256": root}}], "predicateType": _PREDICATE,
        "predicate": {"serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
                      "resources": [{"name": file, "algorithm": "sha256", "digest": digest.hexdigest()}
                                    for file, digest in digests.items()]}}
    return json.dumps(statement, sort_keys=True).encode()


def _enveloped(payload: bytes) -> bytes:
    """What is signed: the pre-authentication encoding of DSSE 1.0."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)


def _written(payload: bytes, signature: bytes, key_pem: bytes) -> bytes:
    material = {"publicKey": {"hint": hashlib.sha256(key_pem).hexdigest()}, "tlogEntries": []}
    envelope = {"payload": base64.b64encode(payload).decode(), "payloadType": _PAYLOAD,
                "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}]}
    return json.dumps({"mediaType": _BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope},
                      sort_keys=True).encode()


def _loaded(public_key: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_der_public_key(public_key)
    except ValueError as error:
        raise _refused("the manifest's key for model-signing is unreadable") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _refused("the manifest's key for model-signing is not on P-256")
    return key


def _refused(message: str) -> Refused:
    return Refused(message, field="file", remedy="export the version again from a platform you trust")

"""What lies in an exported version's archive, under which name, and which signature vouches for which of it.

`model/` is the folder that model-signing signs: the ONNX file, the manifest as signed bytes and as JSON, the card and
the program that runs them offline. Beside it lie that signature, its public key, and Lepton's own over the manifest.
"""

import base64
import hashlib
import json
from datetime import datetime

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError

from lepton.contracts.bundles import modelsigning
from lepton.contracts.bundles.packing import pack, unpack, unpack_exactly
from lepton.contracts.pb.models_pb2 import ModelManifest, ModelVersion
from lepton.contracts.signing import Identity, TrustStore
from lepton.errors import Invalid, Refused

FOLDER = "model"
MODEL, MANIFEST, MANIFEST_JSON = "model.onnx", "manifest.pb", "manifest.json"
PROGRAM, README = "predict.py", "README.md"
CARD = "card/"
SIGNATURE, KEY, OWN_SIGNATURE = "model.sig", "model-signing.pem", "lepton.sig.json"

_READ_ME = """# {model} version {version}

To run it, with Python 3.10 or later and `pip install onnxruntime`, on rows as JSON, one a line:

    python model/predict.py rows.jsonl
    echo '{{"field": 1.5}}' | python model/predict.py

To verify the archive before it is unpacked, against the keys you trust (a folder of `<key_id>.json`):

    lepton models verify {model}-{version}.zip --trust trust

To verify the unpacked folder without Lepton, with `pip install model-signing pyopenssl`:

    model_signing verify key model --signature model.sig --public_key model-signing.pem

That proves that nothing was changed since the owner of `model-signing.pem` signed it. Who that is, `lepton models
verify` proves: the manifest, signed by the Ed25519 key `{key_id}`, names that public key.
"""


def beside(identity: Identity, version: ModelVersion, model: bytes, card: bytes | None, program: bytes) -> bytes:
    """All of the archive but the model and the card, packed; needs the signer, so it is made when a version is."""
    manifest = version.manifest
    notes = _READ_ME.format(model=version.model, version=version.version, key_id=version.key_id)
    ours = {MANIFEST: manifest.SerializeToString(deterministic=True), PROGRAM: program, README: notes.encode(),
            MANIFEST_JSON: MessageToJson(manifest, preserving_proto_field_name=True, sort_keys=True).encode()}
    signature = modelsigning.sign(identity, FOLDER, {**ours, MODEL: model, **_card(card)})
    return pack({**_within(ours), SIGNATURE: signature, KEY: modelsigning.pem(manifest.model_signing_key),
                 OWN_SIGNATURE: _own(version.key_id, version.signature)})


def whole(beside_it: bytes, model: bytes, card: bytes | None) -> bytes:
    """The archive of a version, from what `beside` made when it was published."""
    return pack({**unpack(beside_it), **_within({MODEL: model, **_card(card)})})


def verified(archive: bytes, trust: TrustStore, now: datetime) -> ModelManifest:
    """The manifest of an archive in which no byte was changed. Raises Invalid or Refused, with what does not hold."""
    files = unpack_exactly(archive)
    folder = {name.removeprefix(f"{FOLDER}/"): data for name, data in files.items() if name.startswith(f"{FOLDER}/")}
    missing = sorted({SIGNATURE, KEY, OWN_SIGNATURE} - set(files)) + sorted(
        {MODEL, MANIFEST, MANIFEST_JSON, PROGRAM, README} - set(folder))
    if missing or len(files) != len(folder) + 3:
        raise Invalid("the archive is no exported version", field="file", place=", ".join(missing) or "other files")
    manifest = _manifest(files[OWN_SIGNATURE], folder[MANIFEST], trust, now)
    if hashlib.sha256(folder[MODEL]).hexdigest() != manifest.sha256:
        raise Refused("the ONNX file is not the one that the manifest names", field="file", place=MODEL)
    if files[KEY] != modelsigning.pem(manifest.model_signing_key):
        raise Refused("the public key is not the one that the manifest names", field="file", place=KEY)
    modelsigning.verify(manifest.model_signing_key, FOLDER, folder, files[SIGNATURE])
    return manifest


def _manifest(own: bytes, signed: bytes, trust: TrustStore, now: datetime) -> ModelManifest:
    try:
        told = json.loads(own)
        key_id, signature = str(told["key_id"]), base64.b64decode(told["signature"], validate=True)
        manifest = ModelManifest.FromString(signed)
    except (ValueError, KeyError, TypeError, DecodeError) as error:
        raise Refused("the manifest or its signature is unreadable", field="file", place=OWN_SIGNATURE) from error
    if _own(key_id, signature) != own:
        raise Refused("the signature is not as it was written", field="file", place=OWN_SIGNATURE)
    trust.verify(key_id, "trainer", signed, signature, now)
    return manifest


def _own(key_id: str, signature: bytes) -> bytes:
    return json.dumps({"key_id": key_id, "signs": f"{FOLDER}/{MANIFEST}", "algorithm": "Ed25519",
                       "signature": base64.b64encode(signature).decode()}).encode()


def _card(card: bytes | None) -> dict[str, bytes]:
    return {} if card is None else {f"{CARD}{name}": data for name, data in unpack(card).items()}


def _within(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{FOLDER}/{name}": data for name, data in files.items()}

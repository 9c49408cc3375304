"""OpenSSF Model Signing (OMS v1.0): the builder's signature over exactly the files of a model directory.

The only module that imports `model_signing`, and inside functions: the import takes over a second, and most commands do
not need it.

Verification, numbered as in the body; each closes a gap that the library leaves (measured on 1.1.1):

1. the bundle is not too long, is JSON with each key once, and has the one shape that we write: key method, one
   signature
2. in-toto payload, predicate v1.0 (not the legacy one), serialised by file, SHA-256, no links, no paths ignored
3. the signature is by a holder of the role: the library's verifier, on the key that is pinned
4. the files that it lists are the files in hand, by path and SHA-256, one to one, at least one

The subject digest of OMS ignores file names, and its manifest holds no sizes; step 4 compares names and digests, and
the release binds lengths and the bundle itself.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from securesystemslib.dsse import Envelope

from twinseal.digests import canonical_json, parse_json, sha256
from twinseal.errors import DigestMismatchError, EvidenceError, SignatureError
from twinseal.files import FileRecord, inventory
from twinseal.trust.keys.key import Key, KeySigner
from twinseal.trust.root.pins import RoleKeys
from twinseal.trust.signing.dsse import PAYLOAD_TYPE, decode_strict_base64

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE = "https://model_signing/signature/v1.0"
STATEMENT = "https://in-toto.io/Statement/v1"
SERIALIZATION = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
MAX_BUNDLE_BYTES = 4 << 20


def sign_directory(directory: Path, signer: KeySigner) -> bytes:
    """The OMS bundle over every file of `directory`. Same files and key file, same bytes.

    A key in a token draws its nonces at random: its bundles differ each time, and all verify.

    Raises:
        DigestMismatchError: The directory is empty, or holds something that is no plain file.
        KeyAccessError: The key cannot sign.
    """
    records = inventory(directory)  # refuses links, fifos and odd names before the library sees them
    if not records:
        raise DigestMismatchError(f"{directory}: expected a model to sign, got no files")
    manifest = _manifest(directory)
    resources = [
        {"name": item.identifier, "algorithm": item.digest.algorithm, "digest": item.digest.digest_hex}
        for item in manifest.resource_descriptors()
    ]
    root = sha256(b"".join(item.digest.digest_value for item in manifest.resource_descriptors()))
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": manifest.model_name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE,
        "predicate": {"serialization": manifest.serialization_type, "resources": resources},
    }
    bundle = canonical_json(_bundle(canonical_json(statement), signer))
    _require_same_files(_resources(_statement(_envelope(bundle))), records)  # what was hashed twice must be one thing
    return bundle


def verify_directory(
    directory: Path, bundle: bytes, role: RoleKeys, records: Iterable[FileRecord] | None = None
) -> tuple[FileRecord, ...]:
    """The files of `directory`, once a holder of `role` has signed exactly those.

    Args:
        directory: The model directory.
        bundle: The OMS bundle.
        role: Who may sign.
        records: The files, paths relative to `directory`, if the caller has hashed them itself (as they streamed in);
            else they are listed and hashed here.

    Raises:
        SignatureError: The bundle is malformed, of another kind, or not signed by the role.
        DigestMismatchError: The files are not those that it lists.
    """
    records = inventory(directory) if records is None else tuple(sorted(records))
    envelope = _envelope(bundle)
    listed = _resources(_statement(envelope))
    _check_signature(bundle, role)  # 3
    _require_same_files(listed, records)  # 4
    return records


def _envelope(bundle: bytes) -> dict[str, Any]:
    """Step 1: the DSSE envelope inside the one shape of bundle that we write."""
    try:
        value = parse_json(bundle, "OMS bundle", limit=MAX_BUNDLE_BYTES)
    except EvidenceError as error:
        raise SignatureError(str(error)) from error
    outer = _require_fields(value, {"mediaType", "verificationMaterial", "dsseEnvelope"}, "bundle")
    if outer["mediaType"] != MEDIA_TYPE:
        raise SignatureError(f"OMS bundle: expected {MEDIA_TYPE}, got {str(outer['mediaType'])[:80]}")
    material = dict(outer["verificationMaterial"]) if isinstance(outer["verificationMaterial"], dict) else {}
    if material.pop("tlogEntries", []) != []:
        raise SignatureError("OMS bundle: expected no log entries beside a pinned key, got some")
    hint = _require_fields(_require_fields(material, {"publicKey"}, "material")["publicKey"], {"hint"}, "publicKey")[
        "hint"
    ]
    if not isinstance(hint, str) or not hint:
        raise SignatureError("OMS bundle: expected the hint of a key, got none")
    envelope = _require_fields(outer["dsseEnvelope"], {"payload", "payloadType", "signatures"}, "envelope")
    signatures = envelope["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        got = len(signatures) if isinstance(signatures, list) else "none"
        raise SignatureError(f"OMS bundle: expected one signature, got {got}")
    single = dict(signatures[0]) if isinstance(signatures[0], dict) else {}
    single.pop("keyid", None)  # written empty, or not at all, and not signed: the pinned key decides
    decode_strict_base64(_require_fields(single, {"sig"}, "signature")["sig"], "OMS bundle")
    return envelope


def _statement(envelope: dict[str, Any]) -> dict[str, Any]:
    """Step 2: the predicate of the in-toto statement inside an envelope."""
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise SignatureError(
            f"OMS bundle: expected a payload of {PAYLOAD_TYPE}, got {str(envelope['payloadType'])[:80]}"
        )
    try:
        payload = parse_json(
            decode_strict_base64(envelope["payload"], "OMS bundle"), "OMS payload", limit=MAX_BUNDLE_BYTES
        )
    except EvidenceError as error:
        raise SignatureError(str(error)) from error
    fields = _require_fields(payload, {"_type", "subject", "predicateType", "predicate"}, "statement")
    for key, expected in (("_type", STATEMENT), ("predicateType", PREDICATE)):
        if fields[key] != expected:
            raise SignatureError(f"OMS statement: expected {expected}, got {str(fields[key])[:80]}")
    predicate = _require_fields(fields["predicate"], {"serialization", "resources"}, "predicate")
    serialization = predicate["serialization"]
    if isinstance(serialization, dict) and "ignore_paths" in serialization:
        raise SignatureError("OMS predicate: expected no ignored paths, got a bundle that names its own")
    if serialization != SERIALIZATION or serialization["allow_symlinks"] is not False:
        raise SignatureError(f"OMS predicate: expected {SERIALIZATION}, got {str(serialization)[:80]}")
    return predicate


def _resources(predicate: dict[str, Any]) -> list[tuple[str, str]]:
    """The files that a predicate lists: (path, SHA-256), as many as there are."""
    if not isinstance(predicate["resources"], list) or not predicate["resources"]:
        raise SignatureError("OMS predicate: expected files, got none")
    listed = []
    for item in predicate["resources"]:
        resource = _require_fields(item, {"name", "algorithm", "digest"}, "resource")
        if resource["algorithm"] != "sha256" or not all(isinstance(part, str) for part in resource.values()):
            raise SignatureError(f"OMS resource: expected a SHA-256, got {str(resource)[:80]}")
        listed.append((resource["name"], resource["digest"]))
    return listed


def _require_same_files(listed: list[tuple[str, str]], records: tuple[FileRecord, ...]) -> None:
    here = sorted((record.path, record.sha256) for record in records)
    if sorted(listed) == here:
        return
    odd = sorted({name for name, _ in set(listed) ^ set(here)}) or ["a file listed twice"]
    raise DigestMismatchError(
        f"model: expected exactly the files that the builder signed, got others: {', '.join(odd[:3])}"
    )


def _check_signature(bundle: bytes, role: RoleKeys) -> None:
    """Step 3. Every holder is tried: the hint in the bundle is not signed, and the library demands that it fits."""
    reasons = []
    for holder in role.holders:
        try:
            _verify_with_library(bundle, holder.key)
            break
        except Exception as error:  # whatever the library makes of a hostile bundle is "not verified"
            reasons.append(f"{holder.name}: {type(error).__name__} {error}".strip())
    else:
        raise SignatureError(
            f"OMS bundle: expected the signature of {role.role}, got another ({'; '.join(reasons)[:200]})"
        )
    if role.threshold != 1:  # the format holds one signature, see step 1
        raise SignatureError(f"OMS bundle: expected {role.threshold} signatures, got 1")


def _verify_with_library(bundle: bytes, key: Key) -> None:
    """The library's own verification of signature and manifest; returns or raises anything.

    Its `verifying.Config` would hash all files once more; its verifier alone does not, and step 4 compares what was
    hashed.
    """
    from model_signing._signing import sign_ec_key, sign_sigstore_pb  # noqa: PLC0415 - 1.2 s, see above

    with tempfile.TemporaryDirectory(prefix="twinseal-") as folder:
        public, signature = Path(folder, "key.pub"), Path(folder, "model.sig.json")
        public.write_text(key.keyval["public"], encoding="ascii")
        signature.write_bytes(bundle)
        sign_ec_key.Verifier(public).verify(sign_sigstore_pb.Signature.read(signature))


def _manifest(directory: Path) -> Any:
    """The library's manifest of a directory, nothing ignored."""
    from model_signing import hashing  # noqa: PLC0415 - 1.2 s, see above

    try:
        return hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False).hash(directory)
    except ValueError as error:
        raise DigestMismatchError(f"{directory}: expected a model of plain files, got {error}") from error


def _bundle(payload: bytes, signer: KeySigner) -> dict[str, Any]:
    """The bundle around a statement, in the library's shape.

    Not its own signer: that reads private keys from files in the clear, and orders the statement anew in every
    process, so that the same model signed twice would be two releases.
    """
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": sha256(signer.public_key.keyval["public"].encode())},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signer.sign_raw(envelope.pae())).decode(), "keyid": ""}],
        },
    }


def _require_fields(value: Any, names: set[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != names:
        raise SignatureError(f"OMS {what}: expected exactly {', '.join(sorted(names))}, got {str(value)[:80]}")
    return value

"""The attacker's own tools: what a hostile registry, a thief of keys, or a deceived signer can make.

Nothing here is twinseal's, so that a mistake of ours cannot hide itself: JSON, hashes and signatures come from the
standard library, `cryptography`, `tuf` and `model_signing`. Keys are read from where the demo home keeps them: who
calls says by that whose key was stolen.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, TargetFile, Targets

IN_TOTO = "application/vnd.in-toto+json"
ORDER_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # n, SEC 2 section 2.4.2
Edit = Callable[[Any], None]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def edited(data: bytes, edit: Edit) -> bytes:
    """JSON with one thing changed."""
    value = json.loads(data)
    edit(value)
    return canonical(value)


def flip(path: Path, at: float = 0.5) -> None:
    """One bit, so far along the file."""
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def malleated(signature: bytes) -> bytes:
    """Another valid ECDSA signature over the same bytes, made without the key: (r, s) → (r, n − s)."""
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, ORDER_P256 - s)


@dataclass(frozen=True)
class Keyring:
    """The private keys in a folder, by their holders' names."""

    folder: Path

    def private(self, holder: str) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_pem_private_key((self.folder / f"{holder}.pem").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    def sign(self, holder: str, data: bytes) -> bytes:
        return self.private(holder).sign(data, ec.ECDSA(hashes.SHA256()))

    def signer(self, holder: str) -> CryptoSigner:
        return CryptoSigner(self.private(holder))

    def keyid(self, holder: str) -> str:
        return str(self.signer(holder).public_key.keyid)

    def envelope(self, payload: bytes, holder: str, payload_type: str = IN_TOTO) -> dict[str, Any]:
        """A DSSE envelope, its pre-authentication encoding written out (DSSE 1.0.2, protocol.md)."""
        made = base64.b64encode(self.sign(holder, pae(payload_type, payload))).decode()
        return {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [{"keyid": self.keyid(holder), "sig": made}],
        }


def pae(payload_type: str, payload: bytes) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(payload), payload)


def payload_of(envelope: bytes) -> Any:
    return json.loads(base64.b64decode(json.loads(envelope)["payload"]))


# Bundles


def sign_model(folder: Path, private_pem: Path, to: Path, *, ignore: bool = False) -> None:
    """The OMS signature as `model_signing` itself makes it; by its own default it ignores what Git keeps."""
    from model_signing import hashing, signing

    config = signing.Config().use_elliptic_key_signer(private_key=private_pem)
    if not ignore:
        config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False))
    config.sign(folder, to)


def sign_statement(bundle: bytes, keys: Keyring, holder: str, edit: Edit) -> bytes:
    """An OMS bundle whose statement is edited and honestly signed again."""
    value = json.loads(bundle)
    old = value["dsseEnvelope"]
    payload = edited(base64.b64decode(old["payload"]), edit)
    made = keys.envelope(payload, holder, old["payloadType"])
    made["signatures"][0]["keyid"] = ""
    return canonical(value | {"dsseEnvelope": made})


def deceive(bundle: Path, keys: Keyring) -> None:
    """Everybody was deceived: builder and assessor sign for the model as it lies in `bundle` now."""
    sign_model(bundle / "model", keys.folder / "builder.pem", bundle / "model.sig.json")
    digests = {f"model/{p.relative_to(bundle / 'model')}": sha256(p.read_bytes()) for p in files(bundle / "model")}
    builder = ("ingest", "prepare", "train")
    for path in sorted((bundle / "evidence").iterdir()):
        stage = path.name.split(".")[0]
        if stage == "policy":  # its owners sign no model
            continue
        statement = payload_of(path.read_bytes())
        if any(item["name"].startswith("model/") for item in statement["subject"]):
            rest = [item for item in statement["subject"] if not item["name"].startswith("model/")]
            model = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())]
            statement["subject"] = model + rest
        if stage != "assess":
            path.write_bytes(
                canonical(keys.envelope(canonical(statement), "builder" if stage in builder else "assessor"))
            )
        else:
            verdict = statement
    judge(bundle, keys, verdict)


def judge(bundle: Path, keys: Keyring, verdict: Any) -> None:
    """The assessor signs `verdict` as one from the evidence that lies beside it."""
    inputs = [
        path for path in sorted((bundle / "evidence").iterdir()) if not path.name.startswith(("assess", "policy"))
    ]
    verdict["predicate"]["inputAttestations"] = [
        {"uri": path.name, "digest": {"sha256": sha256(path.read_bytes())}} for path in inputs
    ]
    (bundle / "evidence/assess.dsse.json").write_bytes(canonical(keys.envelope(canonical(verdict), "assessor")))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def release_of(bundle: Path, like: bytes, **changes: Any) -> dict[str, Any]:
    """A release of the files in `bundle`; all else as in the release `like`, but for `changes`."""
    value: dict[str, Any] = json.loads(like)
    value["files"] = [
        {"path": p.relative_to(bundle).as_posix(), "length": p.stat().st_size, "sha256": sha256(p.read_bytes())}
        for p in files(bundle)
    ]
    value["files"].sort(key=lambda record: str(record["path"]))
    verdict = bundle / "evidence/assess.dsse.json"
    value["verdict_sha256"] = sha256(verdict.read_bytes()) if verdict.exists() else "0" * 64
    return value | changes


# TUF repositories


@dataclass(frozen=True)
class Repository:
    """The files that a registry serves, in the hands of whoever holds some of the keys."""

    folder: Path
    keys: Keyring

    @property
    def metadata(self) -> Path:
        return self.folder / "metadata"

    def read(self, name: str) -> Any:
        return Metadata.from_file(str(self.metadata / name))

    def newest(self, role: str) -> Any:
        """The newest metadata of a role that lies here."""
        if role == "timestamp":
            return self.read("timestamp.json")
        versions = [int(path.name.split(".")[0]) for path in self.metadata.glob(f"*.{role}.json")]
        return self.read(f"{max(versions)}.{role}.json")

    def put(self, role: str, metadata: Any, holders: Iterable[str], *, listed: bool = True) -> None:
        """Sign, write under its version, and have the registrar's key list it."""
        metadata.signatures.clear()
        for holder in holders:
            metadata.sign(self.keys.signer(holder), append=True)
        self.place(role, metadata.to_bytes(), metadata.signed.version, listed=listed)

    def place(self, role: str, data: bytes, version: int, *, listed: bool = True) -> None:
        (self.metadata / f"{version}.{role}.json").write_bytes(data)
        if listed:
            self.relist(lambda meta: meta.update({f"{role}.json": MetaFile.from_data(version, data, ["sha256"])}))

    def relist(self, edit: Edit = lambda _: None, *, by: str = "registrar", **changes: Any) -> None:
        """A newer snapshot and timestamp; `changes` are attributes of both, by a thief of the registrar's key."""
        stamp, snapshot = self.newest("timestamp"), self.newest("snapshot")
        edit(snapshot.signed.meta)
        snapshot.signed.version += 1
        stamp.signed.version += 1
        for name, value in changes.items():
            setattr(snapshot.signed, name, value)
            setattr(stamp.signed, name, value)
        snapshot.sign(self.keys.signer(by))
        data = snapshot.to_bytes()
        (self.metadata / f"{snapshot.signed.version}.snapshot.json").write_bytes(data)
        stamp.signed.snapshot_meta = MetaFile.from_data(snapshot.signed.version, data, ["sha256"])
        stamp.sign(self.keys.signer(by))
        stamp.to_file(str(self.metadata / "timestamp.json"))

    def release(
        self, data: bytes, model: str, holders: Iterable[str], expires: datetime, *, listed: bool = True
    ) -> None:
        """Reviewers, or thieves of their keys, sign the release `data` as the next of `model`."""
        target = TargetFile(len(data), {"sha256": sha256(data)}, f"{model}/release.json")
        role = Metadata(Targets(self.newest(model).signed.version + 1, None, expires, {target.path: target}))
        place = self.folder / "targets" / model / f"{sha256(data)}.release.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        self.put(model, role, holders, listed=listed)

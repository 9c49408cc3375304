"""Every parser of untrusted bytes, with documents that it takes, and what must hold of whatever it makes of others.

A parser is called with bytes and either returns, having checked its own law (what came out goes back in; nothing that
nobody signed came out), or raises one of our errors. Anything else is a finding: see `harness.outcome`.

Where a signature stands before a parser, the same parser is reached a second time from behind it (`… said`): the bytes
are signed first, by the one who may, as a thief of that key would.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import httpcore
import numpy as np
import pandas as pd
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import Key, Signature
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from tests.fuzz.frame_parsers import frame_parsers
from tests.fuzz.harness import Parser, holds
from tests.fuzz.input_parsers import input_parsers
from tests.fuzz.memory_parsers import memory_parsers
from tests.fuzz.output_parsers import output_parsers
from tests.trust.passkey_scenes import new_person
from tests.twin.deployment import CHANNELS, MODEL, Deployment
from twinseal.digests import canonical_json, parse_json, sha256
from twinseal.errors import DataError, EvidenceError, SignatureError
from twinseal.evidence import REVIEW, Statement, Subject
from twinseal.files import inventory, relative_names
from twinseal.prognostics.checkpoint import parse_model
from twinseal.trust.audit import Entry, Log, note
from twinseal.trust.keys import passkeys
from twinseal.trust.keys.key import NamedSigner
from twinseal.trust.release import approval, oms, repository
from twinseal.trust.release.model_role import count_approvals, parse_role
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.home import Home
from twinseal.trust.root.metadata import check_root, parse, signed_bytes
from twinseal.trust.signing.dsse import PAYLOAD_TYPE, sign_envelope, verify_envelope
from twinseal.twin import runtime, telemetry_reader
from twinseal.twin.byte_sources import METADATA_RUN, DirectorySource, RestSource
from twinseal.twin.pull import pull
from twinseal.twin.state import LastSeen

RUN = "0123456789abcdef" * 2
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def all_parsers(folder: Path) -> dict[str, Parser]:
    """The parsers by name, over one small deployment made in `folder`."""
    deployment = Deployment(folder)
    deployment.publish(1)
    made = [
        *_of_values(deployment),
        *_of_signatures(deployment),
        *_of_passkeys(),
        *_of_metadata(deployment),
        *_of_models(deployment),
        *_of_anchors(deployment, folder),
        *_of_approvals(deployment, folder),
        *_of_feeds(deployment, folder),
        *frame_parsers(folder),
        *memory_parsers(folder),
        *input_parsers(),
        *output_parsers(folder),
        *_of_answers(),
        *_of_logs(folder),
    ]
    return {parser.name: parser for parser in made}


def _of_values(deployment: Deployment) -> list[Parser]:
    mirror = deployment.mirror
    releases = tuple(path.read_bytes() for path in (mirror / "targets").rglob("*.release.json"))
    statements = tuple(_payload(path.read_bytes()) for path in sorted(mirror.rglob("*.dsse.json")))
    seen = LastSeen(MODEL, NOW, 3, sha256(b"a"))

    def release(data: bytes) -> None:
        holds(Release.from_bytes(data).to_bytes() == data, "release: another spelling of it was taken")

    def statement(data: bytes) -> None:
        value = Statement.from_bytes(data)
        holds(Statement.from_bytes(value.to_bytes()) == value, "statement: it does not go back in")

    def memory(data: bytes) -> None:
        value = LastSeen.from_bytes(data)
        holds(LastSeen.from_bytes(value.to_bytes()) == value, "seen: it does not go back in")
        value.check_clock(value.time)

    return [
        Parser("release", releases, release),
        Parser("statement", statements, statement),
        Parser("seen", (seen.to_bytes(), replace(seen, version=1).to_bytes()), memory),
    ]


def _of_signatures(deployment: Deployment) -> list[Parser]:
    bundle = next((deployment.mirror / "candidates").iterdir())
    assessor, builder = (deployment.anchor.roles[name] for name in ("assessor", "builder"))
    envelopes = [(bundle / f"evidence/{stage}.dsse.json").read_bytes() for stage in ("assess", "evade", "validate")]
    signed = {_payload(data) for data in envelopes}
    signature = (bundle / "model.sig.json").read_bytes()
    records = relative_names(inventory(bundle), "model")
    payload = _payload_of_bundle(signature)
    listed = _resources(payload)
    signer = deployment.home.signer("builder")

    def envelope(data: bytes) -> None:
        holds(verify_envelope(data, assessor) in signed, "envelope: a payload that the assessor never signed")

    def oms_bundle(data: bytes) -> None:
        holds(oms.verify_directory(bundle / "model", data, builder, records) == records, "OMS: other files")
        holds(_payload_of_bundle(data) == payload, "OMS: a statement that the builder never signed")

    def oms_statement(data: bytes) -> None:
        value = json.loads(signature)
        value["dsseEnvelope"]["payload"] = base64.b64encode(data).decode()
        sig = signer.sign_raw(Envelope(data, PAYLOAD_TYPE, {}).pae())
        value["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(sig).decode()
        oms.verify_directory(bundle / "model", canonical_json(value), builder, records)
        holds(_resources(data) == listed, "OMS: other files than those in hand")

    return [
        Parser("envelope", tuple(envelopes), envelope),
        Parser("oms", (signature,), oms_bundle),
        Parser("oms_said", (payload,), oms_statement),
    ]


def _of_passkeys() -> list[Parser]:
    alice = new_person("alice")
    key = alice.passkey
    signatures = alice.signer.sign_all([b"words", b"role"])
    made = bytes.fromhex(signatures[0].signature)
    parts = json.loads(made)

    def file(data: bytes) -> None:
        value = passkeys.from_file(data, "file")
        holds(passkeys.from_file(passkeys.public_file(value), "file") == value, "passkey: it does not go back in")
        holds(Key.from_dict(value.keyid, value.to_dict()) == value, "passkey: TUF does not take it")

    def signature(data: bytes) -> None:
        try:
            key.verify_signature(Signature(key.keyid, data.hex()), b"words")
        except UnverifiedSignatureError as error:  # and nothing else
            raise SignatureError(str(error)) from error
        value = json.loads(data)
        same = [value[name] == parts[name] for name in ("authenticator_data", "client_data", "digests")]
        holds(all(same), "passkey: taken, but not what was signed")

    return [Parser("passkey", (passkeys.public_file(key),), file), Parser("passkey_signature", (made,), signature)]


def _of_metadata(deployment: Deployment) -> list[Parser]:
    metadata = deployment.mirror / "metadata"
    kinds: tuple[tuple[str, type[Any], str], ...] = (
        ("root", Root, "*.root.json"),
        ("targets", Targets, "*.targets.json"),
        ("snapshot", Snapshot, "*.snapshot.json"),
        ("timestamp", Timestamp, "timestamp.json"),
    )
    roles = tuple(path.read_bytes() for path in metadata.glob(f"*.{MODEL}.json"))
    reviewers = {holder.name for holder in deployment.anchor.roles["reviewer"].holders}
    targets = {_canonical_signed(data) for data in roles}

    def of(kind: type[Any]) -> Callable[[bytes], None]:
        def metadata(data: bytes) -> None:
            value = parse(kind, data, "metadata")
            signed_bytes(value, "metadata")
            holds(Metadata.from_bytes(value.to_bytes()) == value, "metadata: it does not go back in")

        return metadata

    def root(data: bytes) -> None:
        holds(check_root(data).consistent_snapshot, "root: without consistent snapshots")

    def role(data: bytes) -> None:
        value = parse_role(data, MODEL)
        tally = count_approvals(data, (), deployment.anchor, MODEL)
        holds(set(tally.signed) <= reviewers, "role: signed by somebody else")
        if tally.signed:
            holds(signed_bytes(value, "role") in targets, "role: counted, but not what was signed")

    found = [Parser(name, tuple(p.read_bytes() for p in metadata.glob(files)), of(t)) for name, t, files in kinds]
    roots = tuple(path.read_bytes() for path in metadata.glob("*.root.json"))
    return [*found, Parser("role", roles, role), Parser("root_of_trust", roots, root)]


def _of_models(deployment: Deployment) -> list[Parser]:
    model = next((deployment.mirror / "candidates").iterdir()) / "model"
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    weights = files["model.safetensors"]
    length = int.from_bytes(weights[:8], "little")
    header, body = weights[8 : 8 + length], weights[8 + length :]

    def accepts(changed: Mapping[str, bytes]) -> None:
        value = parse_model({**files, **changed})
        with suppress(DataError):  # readings from which no estimate comes are refused one by one, later
            holds(
                0 <= value.predict(np.full((2, len(value.channels)), 5.0), 2) <= value.rul_cap_cycles,
                "model: an estimate beyond its cap",
            )

    def one(name: str) -> Callable[[bytes], None]:
        return lambda data: accepts({name: data})

    def head(data: bytes) -> None:
        accepts({"model.safetensors": struct.pack("<Q", len(data)) + data + body})
        holds(json.loads(data) == json.loads(header), "safetensors: a header of other tensors")

    return [
        Parser("config", (files["config.json"],), one("config.json")),
        Parser("contract", (files["contract.json"],), one("contract.json")),
        Parser("guard", (files["guard.json"],), one("guard.json")),
        Parser("safetensors", (weights,), one("model.safetensors")),
        Parser("safetensors_header", (header,), head),
    ]


def _of_anchors(deployment: Deployment, folder: Path) -> list[Parser]:
    """The anchor's file, and its root as a thief of the custodian's key would write it."""
    place, again = Home(folder / "anchor-home"), Home(folder / "anchor-again")
    own, signer = deployment.home.anchor_dir, deployment.home.signer("ruth")
    name = min(path.name for path in own.glob("*.json"))
    root = json.loads((own / "root.json").read_bytes())

    def read(name: str, data: bytes) -> None:
        shutil.copytree(own, place.anchor_dir, dirs_exist_ok=True)
        (place.anchor_dir / name).write_bytes(data)
        value = place.anchor()
        value.write(again.anchor_dir)
        holds(isinstance(value, Anchor) and again.anchor() == value, "anchor: it does not go back in")

    def said(data: bytes) -> None:
        value = parse_json(data, "root")
        try:
            made = signer.sign(encode_canonical(value).encode())
        except Exception as error:  # what has no canonical form cannot be signed, by anybody
            raise EvidenceError(f"root: {error}") from error
        read("root.json", json.dumps({"signatures": [made.to_dict()], "signed": value}).encode())

    return [
        Parser("anchor", ((own / name).read_bytes(),), lambda data: read(name, data)),
        Parser("anchor_said", (canonical_json(root["signed"]),), said),
    ]


def _of_approvals(deployment: Deployment, folder: Path) -> list[Parser]:
    home, anchor = deployment.home, deployment.anchor
    bundle = deployment.bundle(2)
    release = Release.describe(
        bundle,
        model=MODEL,
        version=2,
        policy_sha256=sha256(b"policy"),
        mlflow_model_id="m-" + "0" * 32,
        parent_version=1,
    )
    role = repository.stage(home, release, expires=deployment.roles.expiry("reviewer", NOW))
    waiting = Request(release, role)
    place, alice = folder / "approvals", NamedSigner("alice", home.signer("alice"))
    log = Log(folder / "log")
    options: dict[str, Any] = {"anchor": anchor, "audit": log, "now": NOW}
    policy: dict[str, Any] = {"roles": deployment.roles, "last": repository.last_published(home, MODEL)}
    made = approval.approve(place, waiting, bundle, alice, comment="good", **options, **policy).path.read_bytes()
    no = approval.reject(place, waiting, alice, comment="bad", **options).path.read_bytes()
    honest = (_signed_parts(made), _signed_parts(no))

    def read(data: bytes) -> approval.Reviews:
        (place / "alice.json").write_bytes(data)
        # Never refuses: one bad file must not stop the others. An empty log: both files are the newest decision.
        return approval.read_all(place, waiting, anchor, Log(folder / "no-log"))

    def review(data: bytes) -> None:
        reviews = read(data)
        holds(len(reviews.items) == 1, "approvals: a file without a review")
        if reviews.items[0].standing in ("approved", "rejected"):
            holds(_signed_parts(data) in honest, "approval: says what alice never signed")
        repr(reviews).encode()

    def said(data: bytes) -> None:
        predicate = parse_json(data, "said")
        if not isinstance(predicate, dict) or not predicate:
            raise EvidenceError("said: no object")
        statement = Statement((Subject(release.target, release.sha256),), REVIEW, predicate)
        value = {**json.loads(made), **predicate}
        value["review"] = json.loads(sign_envelope(statement.to_bytes(), alice.signer))
        reviews = read(canonical_json(value))
        holds(len(reviews.items) == 1, "approvals: a file without a review")
        repr(reviews).encode()

    return [
        Parser("approval", (made, no), review),
        Parser("approval_said", tuple(canonical_json(item["said"]) for item in honest), said),
    ]


def _of_feeds(deployment: Deployment, folder: Path) -> list[Parser]:
    table = pd.DataFrame({"unit": ["a", "a", "b"], "cycle": [1, 2, 1], **{name: [5.0, 5.5, 4.0] for name in CHANNELS}})
    admitted = pull(DirectorySource(deployment.mirror), deployment.anchor, MODEL, folder / "fed", NOW).model
    csv, parquet = table.to_csv(index=False).encode(), io.BytesIO()
    table.to_parquet(parquet)
    lines = "".join(json.dumps(row) + "\n" for row in table.to_dict("records")).encode()

    def judged(rows: Any) -> None:
        for answer in runtime.run(admitted, rows):
            holds(0 <= answer.low_cycles <= answer.rul_cycles <= answer.high_cycles <= 100, "runtime: no honest answer")
            holds(
                (answer.readings == "refused") == answer.advice.startswith("inspect now"), "runtime: a silent refusal"
            )

    def of(suffix: str) -> Callable[[bytes], None]:
        def rows(data: bytes) -> None:
            path = folder / f"feed{suffix}"
            path.write_bytes(data)
            judged(islice(telemetry_reader.read(path), 50))

        return rows

    return [
        Parser("feed_lines", (lines,), of(".jsonl")),
        Parser("feed_csv", (csv,), of(".csv")),
        Parser("feed_parquet", (parquet.getvalue(),), of(".parquet")),
    ]


def _of_answers() -> list[Parser]:
    """MLflow's answers, as JSON and as what comes over the wire; httpcore speaks HTTP over these bytes."""
    tags = [{"key": "a", "value": "b"}, {"key": METADATA_RUN, "value": RUN}]
    answer = json.dumps({"registered_model": {"name": MODEL, "tags": tags}}).encode()
    status = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"  # so that each request gets the whole of the bytes
    head = status + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)
    chunked = status + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(answer), answer)

    source = RestSource("http://registry.test", MODEL)

    def asked(data: bytes, path: str = "metadata/timestamp.json", limit: int = 1 << 16) -> bytes:
        source._run = ""  # a new source, less its 30 ms of certificates
        source._client.deadline.restart()
        with httpcore.ConnectionPool(network_backend=httpcore.MockBackend([data])) as source._client.pool:
            try:
                return b"".join(source.open(path, limit))
            except FileNotFoundError:
                return b""  # the one foreign error that a source may raise: there is no such file

    def wire(data: bytes) -> None:
        holds(len(asked(data, limit=256)) <= 256, "registry: more bytes than were asked for")

    def candidate(data: bytes) -> None:
        asked(status + b"Content-Length: %d\r\n\r\n%s" % (len(data), data), f"candidates/m-{RUN}/model/a", 64 << 20)

    def body(data: bytes) -> None:
        asked(status + b"Content-Length: %d\r\n\r\n%s" % (len(data), data))

    place = json.dumps({"model": {"info": {"artifact_uri": f"mlflow-artifacts:/1/models/m-{RUN}/artifacts"}}}).encode()
    return [
        Parser("registry_answer", (answer,), body),
        Parser("registry_candidate", (place,), candidate),
        Parser("registry_wire", (head + answer, chunked), wire),
    ]


def _of_logs(folder: Path) -> list[Parser]:
    """The audit log's parts, as somebody may have left them on the disk."""
    log = Log(folder / "audited")
    entries = [Entry(NOW, "rotated", "ruth", details={"role": "root"}), Entry(NOW, "refused", "twin", MODEL, 2)]
    for item in entries:
        log.append(item)
    checkpoint, vkey = ((log.path / name).read_bytes() for name in ("checkpoint", "vkey"))
    signed = {(note.parse(checkpoint, "checkpoint").size, note.parse(checkpoint, "checkpoint").root_hash)}
    key = note.parse_vkey(vkey.decode().strip())

    def entry(data: bytes) -> None:
        holds(Entry.from_bytes(data).to_bytes() == data, "audit entry: another spelling of it was taken")

    def head(data: bytes) -> None:
        value = note.parse(data, "checkpoint")
        note.check_signature(value, key, "checkpoint")
        holds((value.size, value.root_hash) in signed, "checkpoint: a tree that the log never signed")

    def verifier(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        holds(note.vkey_text(note.parse_vkey(text)) == text, "verifier key: another spelling of it was taken")

    return [
        Parser("audit_entry", tuple(item.to_bytes() for item in entries), entry),
        Parser("audit_checkpoint", (checkpoint,), head),
        Parser("audit_vkey", (vkey.strip(),), verifier),
    ]


def _payload(envelope: bytes) -> bytes:
    return base64.b64decode(json.loads(envelope)["payload"])


def _payload_of_bundle(bundle: bytes) -> bytes:
    return base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"])


def _resources(statement: bytes) -> Any:
    found = json.loads(statement)["predicate"]["resources"]
    return sorted((item["name"], item["digest"], item["algorithm"]) for item in found)


def _canonical_signed(data: bytes) -> bytes:
    return signed_bytes(parse(Targets, data, "role"), "role")


def _signed_parts(data: bytes) -> Any:
    """What an approval says, less its spelling: the signed statement, and the signature that would be counted."""
    value = json.loads(data)
    statement = json.loads(_payload(canonical_json(value["review"])))
    return {"said": statement["predicate"], "subject": statement["subject"]}

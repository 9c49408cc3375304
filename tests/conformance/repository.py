"""A TUF repository over loopback HTTP that publishes what it is told to, right or wrong, and counts what it is asked.

Its metadata can be changed at will between publications; `write` signs what is there, `publish` raises versions first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

TOP = ("root", "targets", "snapshot", "timestamp")


@dataclass
class Repository:
    """The repository.

    Attributes:
        files: What is served, by path below the server's address.
        asked: Every path that was asked for, in order.
        signed: The metadata as it stands, by role.
        signers: By role; all of them sign.
        hashes: Whether snapshot and timestamp list lengths and hashes.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    signed: dict[str, Any] = field(default_factory=dict)
    signers: dict[str, list[CryptoSigner]] = field(default_factory=dict)
    hashes: bool = False
    url: str = ""

    def __post_init__(self) -> None:
        later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
        self.signed = {
            "root": Root(expires=later, consistent_snapshot=True),
            "targets": Targets(expires=later),
            "snapshot": Snapshot(expires=later),
            "timestamp": Timestamp(expires=later),
        }
        for role in TOP:
            self.add_key(role)
        for role in TOP:
            self.write(role)

    @property
    def root(self) -> Root:
        root: Root = self.signed["root"]
        return root

    def add_key(self, role: str, signer: CryptoSigner | None = None) -> CryptoSigner:
        """Give `role` one more key, in the root or in the metadata that delegates to it."""
        signer = signer or CryptoSigner.generate_ed25519()
        self._delegator(role).add_key(signer.public_key, role)
        self.signers.setdefault(role, []).append(signer)
        return signer

    def rotate(self, role: str) -> None:
        """Another key, and none of those before."""
        for keyid in list(self.root.roles[role].keyids):
            self.root.revoke_key(keyid, role)
        self.signers[role] = []
        self.add_key(role)

    def delegate(self, parent: str, role: DelegatedRole) -> None:
        """Let `parent` delegate to `role`, with a key of its own, or the one it has."""
        metadata = self.signed[parent]
        if metadata.delegations is None:
            metadata.delegations = Delegations({}, {})
        metadata.delegations.roles[role.name] = role
        if role.name not in self.signed:
            self.signed[role.name] = Targets(expires=self.signed["targets"].expires)
            self.signers[role.name] = [CryptoSigner.generate_ed25519()]
        for signer in self.signers[role.name]:
            metadata.add_key(signer.public_key, role.name)

    def add_artifact(self, role: str, path: str, data: bytes) -> str:
        """List `data` under `path` in `role`; returns where it is served."""
        target = self.signed[role].targets[path] = TargetFile.from_data(path, data, ["sha256"])
        folder, slash, name = path.rpartition("/")
        place = f"targets/{folder}{slash}{target.hashes['sha256']}.{name}"
        self.files[place] = data
        return place

    def sign(self, role: str) -> bytes:
        """The metadata of `role`, signed by all its signers."""
        metadata = Metadata(self.signed[role])
        for signer in self.signers[role]:
            metadata.sign(signer, append=True)
        data: bytes = metadata.to_bytes()
        return data

    def write(self, role: str) -> bytes:
        """Serve the metadata of `role` as it stands."""
        data = self.sign(role)
        name = quote(role, "")
        plain = role == "timestamp" or not (self.root.consistent_snapshot or role == "root")
        self.files[f"metadata/{name}.json" if plain else f"metadata/{self.signed[role].version}.{name}.json"] = data
        return data

    def publish(self, *roles: str) -> None:
        """Raise the versions of `roles` and serve them, listed by a newer snapshot and timestamp."""
        for role in roles:
            self.signed[role].version += 1
            self.list(role)
        self.publish_snapshot()

    def list(self, role: str) -> None:
        """Serve `role` and list it in the snapshot, which is not served yet."""
        data = self.write(role)
        if role != "root":
            self.signed["snapshot"].meta[f"{role}.json"] = self._meta(role, data)

    def publish_snapshot(self) -> None:
        """A newer snapshot, and the timestamp that lists it."""
        self.signed["snapshot"].version += 1
        self.write("snapshot")
        self.publish_timestamp()

    def publish_timestamp(self) -> None:
        """A newer timestamp, which lists the snapshot as it stands."""
        self.signed["timestamp"].snapshot_meta = self._meta("snapshot", self.sign("snapshot"))
        self.signed["timestamp"].version += 1
        self.write("timestamp")

    def publish_root(self) -> bytes:
        """The next root."""
        self.root.version += 1
        return self.write("root")

    def metadata_asked(self) -> list[str]:
        """Which metadata was asked for, without the folder."""
        return [path.removeprefix("metadata/") for path in self.asked if path.startswith("metadata/")]

    def _delegator(self, role: str) -> Any:
        if role in TOP:
            return self.root
        return next(m for m in self.signed.values() if getattr(m, "delegations", None) and role in m.delegations.roles)

    def _meta(self, role: str, data: bytes) -> MetaFile:
        version = self.signed[role].version
        return MetaFile.from_data(version, data, ["sha256"]) if self.hashes else MetaFile(version)


@contextmanager
def serving(repository: Repository) -> Iterator[Repository]:
    """Serve `repository` on the loopback; sets its `url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            repository.asked.append(path)
            data = repository.files.get(path)
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    repository.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield repository
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

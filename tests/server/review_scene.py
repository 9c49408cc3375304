"""A deployment whose first two reviewers have passkeys of a real server, and what they ask of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.passkeys import Authenticator
from tests.server.scene import PASSWORD, Answer, Server, deployment, now, serving, submitted
from tests.twin.deployment import MODEL, Deployment
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.keys.passkeys import from_file
from twinseal.twin.byte_sources import RestSource
from twinseal.twin.pull import pull

CALLS = "/api/twinseal/v1"


@dataclass
class ReviewScene:
    """A server, its deployment, and its reviewers' devices.

    Attributes:
        made: The deployment.
        server: The server.
        devices: Authenticators, by holder.
    """

    made: Deployment
    server: Server
    devices: dict[str, Authenticator] = field(default_factory=dict)

    def enroll(self, holder: str, device: Authenticator | None = None) -> Authenticator:
        """Make a passkey as the page does, and let the custodians sign it."""
        found = device or Authenticator(rp_id="localhost", origin=self.server.url)
        asked = self.call(holder, "/passkeys/options", {}).json()
        credential = found.register(decoded(asked["challenge"]))
        made = self.call(holder, "/passkeys", {"credential": credential})
        assert made.status == 200, made
        self.enroll_file(holder, made.json()["file"])
        self.devices[holder] = found
        return found

    def enroll_file(self, holder: str, content: str) -> None:
        """What `twinseal reviewer enroll` does, with the custodians' keys at hand."""
        key = from_file(content.encode(), "passkey")
        ceremony.rotate(self.made.home, self.made.roles, holder, now(), public=key)

    def submit(self, seed: int, model: str = MODEL, who: str = "engineer") -> str:
        """A candidate through the server, and its review asked for; the candidate."""
        with signed_in("engineer"):
            model_id, _ = submitted(self.made, seed, model, self.server.url)
        answer = self.call(who, "/reviews", {"candidate": model_id})
        assert answer.status == 201, answer
        return model_id

    def call(self, who: str, path: str, body: Any = None) -> Answer:
        """A call of our API."""
        return self.server.ask("GET" if body is None else "POST", CALLS + path, body, who=who)

    def draft(self, who: str, candidate: str, decision: str = "approve", comment: str = "") -> Answer:
        return self.call(who, f"/reviews/{candidate}/drafts", {"decision": decision, "comment": comment})

    def send(self, who: str, candidate: str, draft: Any, assertion: Any) -> Answer:
        return self.call(who, f"/reviews/{candidate}/decisions", {"said": draft["said"], "assertion": assertion})

    def decide(self, who: str, candidate: str, decision: str = "approve", comment: str = "", **wrong: Any) -> Answer:
        """The whole of it: draft, touch, send."""
        draft = self.draft(who, candidate, decision, comment)
        if draft.status != 200:
            return draft
        value = draft.json()
        return self.send(who, candidate, value, self.devices[who].touch(challenge_of(value["texts"]), **wrong))

    def state(self, candidate: str) -> str:
        return str(self.call("reader", f"/reviews/{candidate}").json()["state"])

    def pulled(self, folder: Path, model: str = MODEL) -> int:
        """The release that a twin admits, by the server's MLflow."""
        with RestSource(self.server.url, model, credentials=("reader", PASSWORD)) as source:
            return pull(source, self.made.anchor, model, folder, now()).model.release.version


@contextmanager
def signed_in(who: str) -> Iterator[None]:
    """MLflow's client in this process is `who`, inside."""
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    before = {name: os.environ.get(name) for name in names}
    os.environ |= dict(zip(names, (who, PASSWORD), strict=True))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def challenge_of(texts: list[str]) -> bytes:
    """As the page computes it, not as the server says."""
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    return hashlib.sha256(json.dumps(digests, separators=(",", ":")).encode()).digest()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@contextmanager
def review_scene(
    path: Path, *options: str, enrolled: tuple[str, ...] = ("alice", "bruno"), is_fork: bool = True
) -> Iterator[ReviewScene]:
    """The scene; its server is ended with it."""
    made = deployment(path)
    with serving(made.home.path, *options, is_fork=is_fork) as server:
        scene = ReviewScene(made, server)
        for holder in enrolled:
            scene.enroll(holder)
        yield scene

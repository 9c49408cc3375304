"""A demo home in which some reviewers sign by passkeys, and releases that are published in spite of our own checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml
from securesystemslib.signer import Signature
from tuf.api.metadata import Metadata, MetaFile

from tests.passkeys import ORIGIN, RP_ID, Authenticator
from tests.trust.scenes import NOW, POLICY, Scene, resign
from twinseal.config import parse
from twinseal.files import write_whole
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.keys.passkeys import Passkey, PasskeySigner, challenge, passkey_from_registration, signature_value
from twinseal.trust.release import repository
from twinseal.trust.release.model_role import role_text
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.root.roles import Roles

ASKED = b"a challenge of the server"


@dataclass(frozen=True)
class Person:
    """A reviewer with a passkey.

    Attributes:
        name: As in policy/roles.yaml.
        device: What holds the passkey.
        passkey: Its public half.
    """

    name: str
    device: Authenticator
    passkey: Passkey

    @property
    def signer(self) -> PasskeySigner:
        return PasskeySigner(self.passkey, self.device.touch)

    def sign_role(self, role: bytes, **wrong: Any) -> dict[str, str]:
        """A signature over the role; `wrong` as of `Authenticator.touch`."""
        digests, expected = challenge([role_text(role)])
        return {"keyid": self.passkey.keyid, "sig": signature_value(self.device.touch(expected, **wrong), digests)}


def new_person(name: str, **device: Any) -> Person:
    authenticator = Authenticator(**device)
    made = authenticator.register(ASKED)
    return Person(name, authenticator, passkey_from_registration(made, challenge=ASKED, rp_id=RP_ID, origin=ORIGIN))


def enroll(scene: Scene, person: Person) -> Scene:
    """The scene with the next root, in which the person's key is the passkey."""
    outcome = ceremony.rotate(scene.home, scene.roles, person.name, NOW, public=person.passkey)
    assert outcome.anchor is not None
    return replace(scene, anchor=outcome.anchor)


def with_policy(scene: Scene, **reviewer: Any) -> Scene:
    """The scene with the next root, by a policy whose reviewer role says more."""
    roles = roles_with(**reviewer)
    outcome = ceremony.renew(scene.home, roles, NOW)
    assert outcome.anchor is not None
    return replace(scene, anchor=outcome.anchor, roles=roles)


def roles_with(**reviewer: Any) -> Roles:
    value = yaml.safe_load(POLICY.read_text())
    value["roles"]["reviewer"] |= reviewer
    return parse(Roles, value, "roles.yaml")


def staged(scene: Scene, release: Release) -> Request:
    return Request(release, repository.stage(scene.home, release, expires=scene.roles.expiry("reviewer", NOW)))


def publish(
    scene: Scene, request: Request, signatures: Iterable[Mapping[str, str]], built_by: tuple[str, ...] = ()
) -> repository.Publication:
    more: dict[str, Any] = {"registrar": scene.signer("registrar"), "roles": scene.roles, "now": NOW}
    return repository.publish(scene.home, request, signatures, **more, built_by=built_by)


def publish_anyway(scene: Scene, request: Request, signatures: Iterable[Mapping[str, str]]) -> None:
    """What a thief of the registrar's key can do: list a role with any signatures, without our checks."""
    metadata = Metadata.from_bytes(request.role_bytes)
    metadata.signatures = {item["keyid"]: Signature(item["keyid"], item["sig"]) for item in signatures}
    data, model, version = metadata.to_bytes(), request.release.model, metadata.signed.version
    write_whole(
        scene.home.repository / "targets" / model / f"{request.release.sha256}.release.json", request.release_bytes
    )
    write_whole(scene.home.repository / "metadata" / f"{version}.{model}.json", data)
    listed = MetaFile.from_data(version, data, ["sha256"])
    resign(scene.home, lambda meta: meta.update({f"{model}.json": listed}))

"""OMS bundles of ours and of the `model_signing` command line: each takes the other's; both are as specified."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.twin.deployment import Deployment
from twinseal.digests import sha256
from twinseal.errors import DigestMismatchError, SignatureError
from twinseal.trust.release.candidate import verify_bundle
from twinseal.trust.release.oms import verify_directory

TOOLS = Path(sys.executable).parent
SCHEMAS = Path(__file__).parents[1] / "vectors/oms"
STRICT = "--no-ignore-git-paths"  # the one flag: without it files of Git's are outside the signature


def run(tool: str, *arguments: object, home: Path | None = None) -> tuple[int, str]:
    """The exit status and all that was said."""
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "400"} | ({"TWINSEAL_HOME": str(home)} if home else {})
    done = subprocess.run(
        [TOOLS / tool, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment
    )
    return done.returncode, done.stdout + done.stderr


def verify(bundle: Path, public: Path) -> tuple[int, str]:
    about = ("--signature", bundle / "model.sig.json", "--public_key", public, STRICT)
    return run("model_signing", "verify", "key", *about, bundle / "model")


def sign(bundle: Path, deployment: Deployment, *flags: str) -> None:
    """The bundle's model, signed by the command line with the builder's key."""
    private = deployment.home.key_uri("builder").removeprefix("file:")
    about = ("--private_key", private, "--signature", bundle / "model.sig.json", *flags)
    assert (0, "Signing succeeded\n") == run("model_signing", "sign", "key", *about, bundle / "model")


@pytest.fixture
def public(deployment: Deployment, tmp_path: Path) -> Path:
    path = tmp_path / "builder.pub"
    path.write_text(deployment.anchor.roles["builder"].holders[0].key.keyval["public"])
    return path


def test_what_we_sign_verifies_with_the_command_line(deployment: Deployment, bundle: Path, public: Path) -> None:
    assert (0, "Verification succeeded\n") == verify(bundle, public)
    added = (".gitattributes", ".git/hooks/post-checkout")
    for name in added:
        path = bundle / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
    status, said = verify(bundle, public)
    assert (1, True) == (status, "Extra files found in model" in said and all(name in said for name in added)), said
    with pytest.raises(DigestMismatchError, match=".gitattributes"):
        verify_bundle(bundle, deployment.anchor)
    (bundle / "model/.gitattributes").unlink()
    with pytest.raises(DigestMismatchError, match=".git/hooks/post-checkout"):
        verify_bundle(bundle, deployment.anchor)


def test_what_the_command_line_signs_verifies_with_twinseal_verify(deployment: Deployment, bundle: Path) -> None:
    before = (bundle / "model.sig.json").read_bytes()
    sign(bundle, deployment, STRICT)
    assert before != (bundle / "model.sig.json").read_bytes()
    status, said = run("twinseal", "verify", bundle, home=deployment.home.path)
    assert (0, True) == (status, "verified" in said), said
    with (bundle / "model/config.json").open("ab") as stream:
        stream.write(b" ")
    assert 0 != run("twinseal", "verify", bundle, home=deployment.home.path)[0]


def test_a_signature_that_names_what_it_ignores_is_refused(deployment: Deployment, bundle: Path) -> None:
    """The command line's default: it leaves Git's files outside the signature, and says so in it."""
    sign(bundle, deployment)
    with pytest.raises(SignatureError, match="expected no ignored paths, got a bundle that names its own"):
        verify_bundle(bundle, deployment.anchor)


@pytest.mark.parametrize("by", ["us", "the command line"])
def test_a_bundle_is_what_the_specification_says(deployment: Deployment, bundle: Path, by: str) -> None:
    if by == "the command line":
        sign(bundle, deployment, STRICT)
    value = json.loads((bundle / "model.sig.json").read_bytes())
    statement = json.loads(base64.b64decode(value["dsseEnvelope"]["payload"]))
    assert [] == errors("bundle", value)
    assert [] == errors("statement", statement)
    resources = statement["predicate"]["resources"]
    assert sorted(item["name"] for item in resources) == [item["name"] for item in resources]  # 5.2.1
    root = sha256(b"".join(bytes.fromhex(item["digest"]) for item in resources))  # 6.5.1
    assert [{"name": "model", "digest": {"sha256": root}}] == statement["subject"]


@pytest.mark.parametrize(
    ("schema", "defect"),
    [
        ("bundle", {"mediaType": "application/json"}),
        ("bundle", {"dsseEnvelope": None}),
        ("bundle", {"verificationMaterial": {"certificate": {}}}),
        ("statement", {"predicateType": "https://model_signing/Digests/v0.1"}),
        ("statement", {"subject": []}),
        ("statement", {"predicate": {"resources": []}}),
        ("statement", {"extra": 1}),
    ],
)
def test_the_schemas_refuse_what_is_none(bundle: Path, schema: str, defect: dict[str, Any]) -> None:
    value = json.loads((bundle / "model.sig.json").read_bytes())
    if schema == "statement":
        value = json.loads(base64.b64decode(value["dsseEnvelope"]["payload"]))
    assert [] != errors(schema, value | defect)


def test_key_fields_that_the_specification_allows_are_taken(deployment: Deployment, bundle: Path) -> None:
    """Section 4.1: keyid absent, empty or null; tlogEntries absent or empty. None of them is under the signature."""
    role = deployment.anchor.roles["builder"]
    for keyid in ({}, {"keyid": ""}, {"keyid": None}):
        for entries in ({}, {"tlogEntries": []}):
            value = json.loads((bundle / "model.sig.json").read_bytes())
            signature = value["dsseEnvelope"]["signatures"][0]
            value["dsseEnvelope"]["signatures"] = [{"sig": signature["sig"], **keyid}]
            hint = value["verificationMaterial"]["publicKey"]
            value["verificationMaterial"] = {"publicKey": hint, **entries}
            assert [] == errors("bundle", value)
            assert 4 == len(verify_directory(bundle / "model", json.dumps(value).encode(), role))


def errors(name: str, value: Any) -> list[str]:
    loaded = [json.loads(path.read_bytes()) for path in SCHEMAS.glob("*.schema.json")]
    registry: Registry[Any] = Registry().with_resources((item["$id"], Resource.from_contents(item)) for item in loaded)
    schema = next(item for item in loaded if item["$id"] == f"{name}.schema.json")
    Draft202012Validator.check_schema(schema)
    return [error.message for error in Draft202012Validator(schema, registry=registry).iter_errors(value)]

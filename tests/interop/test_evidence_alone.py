"""The evidence verifies where twinseal was never installed: by securesystemslib, in a process that cannot import us."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.twin.deployment import Deployment

PROGRAM = """
import json, sys
sys.modules["twinseal"] = None
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

envelope, public, threshold = sys.argv[1], sys.argv[2], int(sys.argv[3])
key = SSlibKey.from_crypto(load_pem_public_key(open(public, "rb").read()))
found = Envelope.from_dict(json.load(open(envelope)))
found.verify([key], threshold)
statement = json.loads(found.payload)
print(found.payload_type, statement["_type"], statement["predicateType"])
"""


def verified(envelope: Path, public: Path, threshold: int = 1) -> tuple[int, str]:
    command = [sys.executable, "-c", PROGRAM, str(envelope), str(public), str(threshold)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout or done.stderr.strip().splitlines()[-1]).strip()


@pytest.mark.parametrize(
    ("stage", "role", "kind"),
    [
        ("train", "builder", "https://slsa.dev/provenance/v1"),
        ("evade", "assessor", "https://in-toto.io/attestation/test-result/v0.1"),
        ("assess", "assessor", "https://slsa.dev/verification_summary/v1"),
    ],
)
def test_a_statement_verifies_with_securesystemslib_alone(
    deployment: Deployment, bundle: Path, tmp_path: Path, stage: str, role: str, kind: str
) -> None:
    envelope, public, other = bundle / f"evidence/{stage}.dsse.json", tmp_path / "role.pub", tmp_path / "other.pub"
    public.write_text(deployment.anchor.roles[role].holders[0].key.keyval["public"])
    other.write_text(deployment.anchor.roles["reviewer"].holders[0].key.keyval["public"])
    said = f"application/vnd.in-toto+json https://in-toto.io/Statement/v1 {kind}"
    assert (0, said) == verified(envelope, public)
    assert 1 == verified(envelope, other)[0]
    value = json.loads(envelope.read_bytes())
    value["payload"] = "e30="
    envelope.write_text(json.dumps(value))
    status, reason = verified(envelope, public)
    assert (1, True) == (status, "VerificationError" in reason), reason

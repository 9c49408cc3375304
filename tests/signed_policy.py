"""A small policy that its owners have signed, for bundles made by hand in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twinseal.digests import sha256
from twinseal.evidence import POLICY_APPROVAL, Statement, Subject
from twinseal.evidence_chain import OBEYED
from twinseal.files import write_whole
from twinseal.policy_entries import part_subjects
from twinseal.trust.root.home import Home
from twinseal.trust.signing.dsse import add_signature, sign_envelope

WHOLE = Subject("policy", sha256(b"policy"))
_HOLDERS = {
    "root": ["ruth"],
    "targets": ["ruth"],
    "builder": ["builder"],
    "assessor": ["assessor"],
    "reviewer": ["alice", "bruno", "chiara"],
    "commissioner": ["emil", "flora"],
    "owner": ["gerda"],
    "registrar": ["registrar"],
}
ROLES: dict[str, Any] = {  # as tests/twin/deployment.py has them
    "models": ["pump-rul", "fan-rul"],
    "roles": {
        name: {"holders": holders, "threshold": 2 if name == "reviewer" else 1, "expires_days": 30}
        for name, holders in _HOLDERS.items()
    },
}
CONTENT: dict[str, Any] = {
    "contract.yaml": {"assets": {"pump": {"model": "pump-rul"}}},
    "evaluation.yaml": {"cuts_per_unit": 5},
    "gates.yaml": {"gates": [{"name": "accuracy", "at_most": 9, "unit": "cycles"}]},
    "reference.yaml": {"assets": {}},
    "roles.yaml": ROLES,
    "threats.yaml": {"evasion": [{"name": "all-sensors", "epsilon_sigma": [0.1, 0.25]}]},
}
FILES = tuple(Subject(f"policy/{name}", sha256(name.encode())) for name in CONTENT)


def obeyed(stage: str) -> tuple[Subject, ...]:
    """The entries of the policy that `stage` says it obeyed."""
    return tuple(part for part in part_subjects(CONTENT) if part.name.removesuffix("#pump") in OBEYED[stage])


def statement(number: int = 1, content: dict[str, Any] | None = None) -> Statement:
    """What the owners sign."""
    predicate = {"number": number, "replaces": "", "time": "2026-03-01T12:00:00Z", "content": content or CONTENT}
    return Statement(tuple(sorted((*FILES, WHOLE))), POLICY_APPROVAL, predicate)


def write_approval(folder: Path, home: Home, made: Statement | None = None) -> None:
    """Write `evidence/policy.dsse.json` of a bundle, signed by as many owners as it takes."""
    owners = home.anchor().roles["owner"]
    signers = [home.signer(holder.name) for holder in owners.holders[: owners.threshold]]
    data = sign_envelope((made or statement()).to_bytes(), signers[0])
    for signer in signers[1:]:
        data = add_signature(data, signer)
    write_whole(folder / "evidence" / "policy.dsse.json", data)

"""What changed since the last release: in the policy, in the code that judged, in the contract. For the reviewer.

The registrar keeps the evidence of each model's current release in the home (`released/<model>/`). It is signed, so
that it is verified like any other when it is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from twinseal.errors import EvidenceError, RollbackError, TrustError
from twinseal.evidence import CODE, PROVENANCE, Statement, Subject, materials
from twinseal.files import write_whole
from twinseal.policy_changes import Change, policy_changes
from twinseal.reading import read_regular
from twinseal.trust.policy_approval import Approval
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.home import Home
from twinseal.trust.signing.attestation import read_attestation
from twinseal.trust.signing.dsse import MAX_ENVELOPE_BYTES

CONTRACT = "model/contract.json"


@dataclass(frozen=True)
class Changes:
    """The differences to the last release.

    Attributes:
        unknown: Why they are not known; "" when they are.
        policy: Changes of the policy, those that may loosen first.
        code: Stages that ran other code.
        contract_changed: Whether the contract inside the model is another one.
        approval: The number of the policy's approval then, and now.
    """

    unknown: str = ""
    policy: tuple[Change, ...] = ()
    code: tuple[str, ...] = ()
    contract_changed: bool = False
    approval: tuple[int, int] = (0, 0)

    @property
    def lines(self) -> tuple[str, ...]:
        """One line for each difference, for people."""
        if self.unknown:
            return (f"what changed since the last release is not known: {self.unknown}",)
        code = (f"other code in the stages {', '.join(self.code)}",) if self.code else ()
        contract = ("another contract inside the model",) if self.contract_changed else ()
        return (*(f"policy: {change}" for change in self.policy), *code, *contract)


def keep_evidence(home: Home, model: str, bundle: Path) -> None:
    """Keep the evidence of a release that is being published, for the comparison with the next.

    Raises:
        OSError: It cannot be written.
    """
    for path in sorted((bundle / "evidence").glob("*.dsse.json")):
        write_whole(_folder(home, model) / path.name, read_regular(path, MAX_ENVELOPE_BYTES))


def changes_since_release(home: Home, model: str, statements: Mapping[str, Statement]) -> Changes:
    """What is different in `statements` (verified, by stage) from the last release of `model`."""
    folder, anchor = _folder(home, model), home.anchor()
    if not folder.is_dir():
        return Changes("this home has registered none")
    try:
        last = _read_all(folder, anchor)
        then, now = Approval.of(last["policy"]), Approval.of(statements["policy"])
        code = tuple(stage for stage in statements if stage in last and _code(last[stage]) != _code(statements[stage]))
    except (TrustError, EvidenceError) as error:
        return Changes(f"its evidence does not verify any more ({error})")
    return Changes(
        policy=policy_changes(then.content, now.content),
        code=code,
        contract_changed=_contract(last) != _contract(statements),
        approval=(then.number, now.number),
    )


def last_statements(home: Home, model: str) -> Mapping[str, Statement] | None:
    """The evidence of the last release of `model`, verified by today's anchor; None before the first.

    Raises:
        TrustError, EvidenceError: It does not verify any more.
    """
    folder = _folder(home, model)
    return _read_all(folder, home.anchor()) if folder.is_dir() else None


def require_no_older_policy(changes: Changes) -> None:
    """Refuse a policy whose approval came before that of the last release.

    Raises:
        RollbackError: Its number is lower.
    """
    then, now = changes.approval
    if now < then:
        raise RollbackError(
            f"policy: expected approval {then} of its owners, as in the last release, or a later one, got {now}",
            remedy="An older policy was put back. Its owners must approve it anew: twinseal policy approve --as NAME",
        )


def last_approval_number(home: Home, anchor: Anchor) -> int:
    """The highest number of a policy's approval in any last release; 0 before the first."""
    numbers = [0]
    for model in anchor.models:
        path = _folder(home, model) / "policy.dsse.json"
        if path.exists():
            numbers.append(Approval.of(read_attestation(path, "policy", anchor)).number)
    return max(numbers)


def _folder(home: Home, model: str) -> Path:
    return home.path / "released" / model


def _read_all(folder: Path, anchor: Anchor) -> dict[str, Statement]:
    names = [item.name for item in anchor.evidence]
    return {name: read_attestation(folder / f"{name}.dsse.json", name, anchor) for name in names}


def _code(statement: Statement) -> tuple[str, ...]:
    """The digests of the code that a stage ran; () where it names none."""
    listed = statement.predicate.get("configuration")
    named = materials(statement) if statement.predicate_type == PROVENANCE else ()
    tested = tuple(Subject.from_dict(item) for item in listed) if isinstance(listed, list) else ()
    return tuple(item.sha256 for item in (*named, *tested) if item.name == CODE)


def _contract(statements: Mapping[str, Statement]) -> tuple[str, ...]:
    return tuple(item.sha256 for item in statements["train"].subjects if item.name == CONTRACT)

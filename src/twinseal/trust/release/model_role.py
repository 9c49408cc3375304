"""A model's own TUF role: what reviewers sign. It lists one target, `<model>/release.json`, and nothing else.

The approval is the threshold signature on this role's metadata. This module parses it (strictly: one target, no
delegation, SHA-256 only) and counts its signatures against the reviewers that the anchor pins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tuf.api.metadata import (  # type: ignore[attr-defined]  # tuf re-exports these without saying so
    Metadata,
    TargetFile,
    Targets,
)

from twinseal.digests import is_sha256, sha256
from twinseal.errors import DigestMismatchError, EvidenceError, ExpiredError, SignatureError, ThresholdError
from twinseal.trust.keys.key import ListSigner
from twinseal.trust.release.release import MAX_VERSION, Release, target_path
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.metadata import keys_that_signed, parse, parse_signature, signed_bytes
from twinseal.trust.root.roles import MAX_EXPIRES_DAYS


@dataclass(frozen=True)
class ApprovalCount:
    """Who has approved a release, and who can still.

    Attributes:
        model: The model whose role it is.
        threshold: How many reviewers must sign.
        signed: Reviewers whose signature counts.
        may_sign: Reviewers who have not signed yet, and can.
        without_passkey: Those of `signed` whose signature is not by a passkey.
        min_without_passkey: How many of those there must be.
        groups: The groups that `signed` come from.
        min_groups: How many of those there must be.
        builders: Reviewers who built the candidate: they never count for it.
    """

    model: str
    threshold: int
    signed: tuple[str, ...]
    may_sign: tuple[str, ...]
    without_passkey: tuple[str, ...] = ()
    min_without_passkey: int = 0
    groups: tuple[str, ...] = ()
    min_groups: int = 1
    builders: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        """How many more must sign, at least; 0 only when nothing is missing."""
        return max(
            0,
            self.threshold - len(self.signed),
            self.min_without_passkey - len(self.without_passkey),
            self.min_groups - len(self.groups) if self.min_groups > 1 else 0,
        )

    @property
    def wanting(self) -> tuple[str, ...]:
        """What is missing beside the threshold, in words, e.g. "1 without a passkey (0 have signed)"."""
        found = []
        if len(self.without_passkey) < self.min_without_passkey:
            found.append(f"{self.min_without_passkey} without a passkey ({len(self.without_passkey)} have signed)")
        if 1 < self.min_groups > len(self.groups):
            found.append(f"reviewers of {self.min_groups} groups (got {', '.join(self.groups) or 'none'})")
        return tuple(found)

    @property
    def summary(self) -> str:
        """One line for people, e.g. "approved by 3 (2 needed): alice, bruno, chiara"."""
        names = ", ".join(self.signed) or "nobody"
        needed = "".join(f"; needed: {item}" for item in self.wanting)
        builders = f"; built by {', '.join(self.builders)}, who can not approve it" if self.builders else ""
        return f"approved by {len(self.signed)} ({self.threshold} needed): {names}{needed}{builders}"

    def require_complete(self) -> None:
        """Refuse an approval that lacks signatures.

        Raises:
            ThresholdError: Too few have signed, or not those whom the quorum asks for; names who can still sign.
        """
        if self.missing:
            expected = "; ".join((f"{self.threshold} reviewers", *self.wanting))
            others = ", ".join(self.may_sign) or "nobody"
            builders = f"; not counted, for having built it: {', '.join(self.builders)}" if self.builders else ""
            raise ThresholdError(
                f"approval of {self.model}: expected {expected}, got {len(self.signed)} "
                f"({', '.join(self.signed) or 'nobody'}); can still sign: {others}{builders}",
                remedy="Ask one of them to look at it, and then: twinseal approve --as NAME",
            )


def compose_role(release: Release, *, version: int, expires: datetime) -> bytes:
    """The unsigned metadata that lists `release`: the bytes that reviewers are asked to sign."""
    data = release.to_bytes()
    target = TargetFile(len(data), {"sha256": sha256(data)}, release.target)
    return Metadata(Targets(version=version, expires=expires, targets={release.target: target})).to_bytes()


def parse_role(data: bytes, model: str) -> Metadata[Targets]:
    """The metadata of the role of `model`.

    Raises:
        SignatureError: It is malformed, or is not the role of one model with one target: a second target, a
            delegation, a hash that is not SHA-256, or a field that TUF does not know would be signed without being
            looked at.
    """
    where = f"role {model}"
    metadata = parse(Targets, data, where)
    role, path = metadata.signed, target_path(model)
    if list(role.targets) != [path]:
        raise SignatureError(f"{where}: expected the one target {path}, got {', '.join(role.targets)[:80] or 'none'}")
    if role.delegations is not None or role.unrecognized_fields or metadata.unrecognized_fields:
        raise SignatureError(f"{where}: expected a role of one target and nothing else, got more")
    target = role.targets[path]
    if set(target.hashes) != {"sha256"} or not is_sha256(target.hashes["sha256"]) or target.unrecognized_fields:
        raise SignatureError(f"{where}: expected a target by its SHA-256 alone, got {str(target.hashes)[:80]}")
    return metadata


def model_of(data: bytes) -> str:
    """The model that a role's metadata is about, by its one target.

    Raises:
        SignatureError: It is about none, or several.
    """
    targets = parse(Targets, data, "role").signed.targets
    model = next(iter(targets), "").partition("/")[0]
    parse_role(data, model)
    return model


def check_release(metadata: Metadata[Targets], release_bytes: bytes, model: str) -> None:
    """Refuse release bytes that are not those that the role lists.

    Raises:
        DigestMismatchError: Length or digest differ.
    """
    target = metadata.signed.targets[target_path(model)]
    got = sha256(release_bytes)
    if target.length != len(release_bytes) or target.hashes["sha256"] != got:
        raise DigestMismatchError(
            f"{target.path}: expected sha256 {target.hashes['sha256'][:12]}… ({target.length} bytes) as listed, "
            f"got {got[:12]}… ({len(release_bytes)} bytes)",
            remedy="The release was changed after the role was made for it. Submit it again: dvc repro --force submit",
        )


def check_expiry(metadata: Metadata[Any], now: datetime, where: str) -> None:
    """Refuse metadata that has expired.

    Raises:
        ExpiredError: It has expired at `now`.
    """
    if metadata.signed.is_expired(now):
        expired = _format_utc(metadata.signed.expires)
        raise ExpiredError(
            f"{where}: expected metadata valid at {_format_utc(now)}, got one that expired {expired}",
            remedy="It must be signed again: `twinseal trust show` says what expires, and who renews it.",
        )


def check_bounds(metadata: Metadata[Targets], now: datetime, where: str) -> None:
    """Refuse what no policy can allow, where there is no policy to ask: a twin has none.

    Raises:
        EvidenceError: The approval is valid for longer than any policy may say, or its version is out of range.
    """
    latest = now + timedelta(days=MAX_EXPIRES_DAYS + 1)
    if metadata.signed.expires > latest or metadata.signed.version > MAX_VERSION:
        raise EvidenceError(
            f"{where}: expected an approval that ends by {latest:%Y-%m-%d}, of a version up to {MAX_VERSION}, "
            f"got one until {metadata.signed.expires:%Y-%m-%d} of version {metadata.signed.version}"
        )


def sign_role(role_bytes: bytes, signer: ListSigner) -> dict[str, str]:
    """A reviewer's signature over a role: its keyid and hexadecimal sig, as it goes into an approval.

    Raises:
        SignatureError: The bytes are no role.
    """
    (signature,) = signer.sign_all([role_text(role_bytes)])
    return {"keyid": signature.keyid, "sig": signature.signature}


def role_text(role_bytes: bytes) -> bytes:
    """The bytes of a role that a reviewer signs.

    Raises:
        SignatureError: The bytes are no role.
    """
    return signed_bytes(parse_role(role_bytes, model_of(role_bytes)), "role")


def count_approvals(
    role_bytes: bytes,
    signatures: Iterable[Mapping[str, str]],
    anchor: Anchor,
    model: str,
    *,
    built_by: Iterable[str] = (),
) -> ApprovalCount:
    """How many of the reviewers whom `anchor` pins have signed exactly this role.

    A signature by another key, over other bytes, by a key already counted, by a reviewer of other models alone, or by
    who built the candidate, is not counted.

    Args:
        role_bytes: The role, with or without signatures of its own.
        signatures: Those that came beside it.
        anchor: Who may review, and who of them counts.
        model: Whose role it is.
        built_by: Who built the candidate, from its verified verdict (`evidence.built_by`); () where that is not known.

    Raises:
        SignatureError: The role or a signature is malformed.
    """
    metadata = parse_role(role_bytes, model)
    found = [parse_signature(dict(item), f"role {model}") for item in signatures]
    by_key = {item.keyid: item for item in [*found, *metadata.signatures.values()]}
    reviewers, names = anchor.roles["reviewer"].of_model(model), tuple(built_by)
    keys = keys_that_signed(reviewers.keys.values(), by_key, signed_bytes(metadata, f"role {model}"))
    builders = tuple(item.name for item in reviewers.holders if reviewers.quorum.is_among(item.name, names))
    signed = tuple(name for name in (reviewers.holder_of(key.keyid) for key in keys) if name not in builders)
    others = tuple(item.name for item in reviewers.holders if item.name not in (*signed, *builders))
    passkeys = {item.name for item in reviewers.holders if item.has_passkey}
    return ApprovalCount(
        model,
        reviewers.threshold,
        signed,
        others,
        without_passkey=tuple(name for name in signed if name not in passkeys),
        min_without_passkey=reviewers.quorum.min_without_passkey,
        groups=reviewers.quorum.groups_of(signed),
        min_groups=reviewers.quorum.min_groups,
        builders=builders,
    )


def assemble_signed_role(
    role_bytes: bytes,
    signatures: Iterable[Mapping[str, str]],
    anchor: Anchor,
    model: str,
    *,
    built_by: Iterable[str] = (),
) -> bytes:
    """The signed metadata: the role with the signatures that count, and no others.

    Raises:
        ThresholdError: They are too few.
        SignatureError: The role or a signature is malformed.
    """
    signatures = tuple(signatures)
    count = count_approvals(role_bytes, signatures, anchor, model, built_by=built_by)
    count.require_complete()
    metadata = parse_role(role_bytes, model)
    found = {
        item.keyid: item for item in (parse_signature(dict(item), model) for item in signatures)
    } | metadata.signatures
    keys = (anchor.roles["reviewer"].key_of(name) for name in count.signed)
    metadata.signatures = {key.keyid: found[key.keyid] for key in keys}
    return metadata.to_bytes()


def _format_utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")

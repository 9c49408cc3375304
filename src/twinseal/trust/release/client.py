"""The TUF client that a twin runs: from the anchor and a source of bytes to the one release that reviewers approved.

python-tuf's `Updater` does the workflow (TUF specification 1.0, section 5); the client adds what that leaves open.
Numbered as in the body of `refresh`:

1. start from the anchor's root, never from the cache, and work on a copy of the cache; the caller gives the time, and
   keeps it from running backwards
2. root, timestamp, snapshot, targets: signatures, thresholds, versions, expiry, hashes
3. the model's role, by the delegation that the targets key signed
4. the newest root's pins: well formed, keeping what is revoked, and not expired; the same role once more against the
   reviewers whom they name, current in the snapshot, with its one target; counters of passkeys have grown
5. release.json, by length and SHA-256; it is the release of the model asked for
6. only now is the new metadata kept: a refusal leaves the cache unchanged, byte for byte. Who steals the registrar's
   key and lists version 10⁹ of a role that no reviewer signed cannot make the twin refuse the honest version 3. Newer
   roots alone are kept also after a refusal: custodians signed them, so withholding them later has no effect

Left to the caller: an overall deadline (in its source), the last release seen (a wiped cache forgets), one twin per
cache.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Protocol

import structlog
from tuf.api import exceptions as tuf
from tuf.api.metadata import (  # type: ignore[attr-defined]  # tuf re-exports these without saying so
    Metadata,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig  # type: ignore[attr-defined]  # as above

from twinseal.errors import (
    DigestMismatchError,
    EvidenceError,
    ExpiredError,
    RegistryError,
    RollbackError,
    RootError,
    SignatureError,
    ThresholdError,
    TrustError,
    TwinsealError,
)
from twinseal.files import write_whole
from twinseal.reading import read_regular
from twinseal.trust.release.counters import check_counters, role_in
from twinseal.trust.release.model_role import check_bounds, check_expiry, count_approvals, parse_role
from twinseal.trust.release.release import MAX_RELEASE_BYTES, Release, target_path
from twinseal.trust.root.anchor import Anchor, anchor_chain
from twinseal.trust.root.metadata import MAX_METADATA_BYTES, parse

log = structlog.get_logger(__name__)

METADATA, TARGETS = "metadata/", "targets/"
MAX_CACHED_BYTES = 8 << 20  # far above each of python-tuf's own limits
ROOTS = "root_history"  # where python-tuf keeps <version>.root.json
_SIGNED_BY = re.compile(r"was signed by (\d+)/(\d+) keys")


class Fetch(Protocol):
    """A source of untrusted bytes, which may be slow.

    Called with a path below the repository (`metadata/timestamp.json`, `targets/pump-rul/<sha256>.release.json`) and
    the most bytes that will be taken. It stops a body that is longer, and one that is late: the overall deadline is
    its own.

    Raises:
        FileNotFoundError: There is no such file (HTTP 404). Before the first byte.
        RegistryError: Anything else that goes wrong on the way.
    """

    def __call__(self, path: str, limit: int, /) -> Iterator[bytes]:
        """The bytes of the file at `path`, in pieces."""


@dataclass(frozen=True)
class MetadataVersions:
    """Versions of the metadata that show a release; 0 where nothing is known.

    Attributes:
        root: Of the newest root.
        timestamp: Counts within one root: a new registrar begins anew, so that a thief's versions are forgotten.
        role: Of the model's role.
    """

    root: int = 0
    timestamp: int = 0
    role: int = 0

    def newest(self, other: MetadataVersions) -> MetadataVersions:
        """The newer of both, part by part."""
        stamps = [item.timestamp for item in (self, other) if item.root == max(self.root, other.root)]
        return MetadataVersions(max(self.root, other.root), max(stamps), max(self.role, other.role))

    def check(self, offered: MetadataVersions, model: str) -> None:
        """Refuse what is older than this, which was seen before.

        Raises:
            RollbackError: It is.
        """
        parts = [("root", self.root, offered.root), (f"role {model}", self.role, offered.role)]
        if offered.root == self.root:
            parts.append(("timestamp", self.timestamp, offered.timestamp))
        for name, seen, got in parts:
            if got < seen:
                raise RollbackError(f"{name}: expected version >= {seen}, as this twin's log has it, got {got}")


NOTHING = MetadataVersions()


def versions_of(anchor: Anchor, metadata_dir: Path, model: str) -> MetadataVersions:
    """The versions in the cache at `metadata_dir`.

    Raises:
        RootError: A root in it does not follow from `anchor`.
        SignatureError: Metadata is absent or malformed.
    """
    stamp = parse(Timestamp, _read_cached(metadata_dir, "timestamp"), "timestamp").signed
    role = parse_role(_read_cached(metadata_dir, model), model).signed
    return MetadataVersions(known_anchors(anchor, metadata_dir)[-1].version, stamp.version, role.version)


def refresh(
    anchor: Anchor,
    metadata_dir: Path,
    fetch: Fetch,
    model: str,
    now: datetime,
    *,
    known: MetadataVersions = NOTHING,
    storing: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
) -> Release:
    """The release of `model` that is current at `now`.

    Side effects: keeps verified metadata in `metadata_dir` (made if missing, 0700), the memory against rollback.

    Args:
        anchor: What is trusted beforehand.
        metadata_dir: The twin's own cache; never shared between twins.
        fetch: The source.
        model: Name of the model.
        now: Aware, UTC; never earlier than the last time seen.
        known: Versions that were seen before, by another memory than the cache, which may have been removed.
        storing: Entered while the cache is written, which takes no network: others may read it meanwhile.

    Raises:
        RollbackError: Metadata is older than what was seen, or something seen is gone.
        ExpiredError: Metadata is too old at `now`.
        ThresholdError: Some, but too few, of a role have signed.
        SignatureError: No holder of a role has signed; metadata is malformed; the delegation is not to the pinned
            reviewers; the counter of a passkey has not grown.
        DigestMismatchError: Bytes are not those that were signed, or too many.
        EvidenceError: release.json is well signed, but is no release of `model`.
        RegistryError: The source failed, or has no release of `model`.
    """
    if model not in anchor.models:
        raise RegistryError(
            f"model: expected one of {', '.join(anchor.models)} (the anchor's), got {model[:60]!r}",
            remedy=f"Name one of these: --model {' or --model '.join(anchor.models)}. A model of another deployment "
            "needs that deployment's anchor.",
        )
    with tempfile.TemporaryDirectory(prefix="twinseal-") as folder:
        scratch = Path(folder, "metadata")
        _copy_cache(metadata_dir, scratch)
        try:
            release = _refresh(anchor, scratch, fetch, model, now)  # 1 to 5
            known.check(versions_of(anchor, scratch, model), model)
        except TwinsealError as error:
            with storing():
                _store_roots(anchor, scratch, metadata_dir)  # 6
            error.remedy = error.remedy or _REMEDIES.get(type(error), "")
            raise
        with storing():
            _store_metadata(scratch, metadata_dir)  # 6
    log.info("release.current", model=model, version=release.version, sha256=release.sha256[:12])
    return release


def known_anchors(anchor: Anchor, metadata_dir: Path) -> tuple[Anchor, ...]:
    """`anchor`, and those that have followed it as far as the cache in `metadata_dir` knows; the newest last.

    Raises:
        RootError: A root in the cache does not follow.
    """
    return anchor_chain(anchor, metadata_dir / ROOTS)


def _refresh(anchor: Anchor, metadata_dir: Path, fetch: Fetch, model: str, now: datetime) -> Release:
    before = role_in(metadata_dir, model)
    updater = _translate_errors(lambda: UpdaterAtTime(anchor.root, metadata_dir, SourceFetcher(fetch), now), model)  # 1
    _translate_errors(updater.refresh, model)  # 2
    snapshot = parse(Snapshot, _read_cached(metadata_dir, "snapshot"), "snapshot").signed
    if f"{model}.json" not in snapshot.meta:
        raise RegistryError(
            f"{model}: expected a release, got none: nothing has been registered yet",
            remedy="Have the candidate approved and registered: twinseal review list",
        )
    info = _translate_errors(lambda: updater.get_targetinfo(target_path(model)), model)  # 3
    newest = known_anchors(anchor, metadata_dir)[-1]  # 4
    newest.check_current(now)
    role = _verify_role(newest, _read_cached(metadata_dir, model), snapshot, model, now)
    check_counters(before, role, newest, model)
    if info is None or info != role.signed.targets[target_path(model)]:
        raise SignatureError(
            f"{target_path(model)}: expected the target that the reviewers of {model} signed, got one from elsewhere",
            remedy="The targets key may be stolen: ask the custodians.",
        )
    data = _translate_errors(lambda: _download(updater, info), model)  # 5
    release = Release.from_bytes(
        data, info.path
    )  # length and digest are checked already: `info` is the role's own target
    if release.model != model:
        raise EvidenceError(f"{info.path}: expected a release of {model}, got one of {release.model}")
    return release


def _copy_cache(metadata_dir: Path, scratch: Path) -> None:
    """Copy the cache to a new folder. A link or a fifo in it is refused: python-tuf would follow the one and wait."""
    scratch.mkdir()
    for path in sorted(metadata_dir.rglob("*.json")):
        try:
            data = read_regular(path, MAX_CACHED_BYTES)
        except OSError as error:
            raise DigestMismatchError(
                f"{path}: expected metadata that this twin wrote, got none ({error.strerror})",
                remedy=f"Somebody put it there. Find out who; then: rm {path}",
            ) from error
        copy = scratch / path.relative_to(metadata_dir)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(data)


def _read_or_none(path: Path) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        return read_regular(path, MAX_CACHED_BYTES)
    return None


def _store_metadata(scratch: Path, metadata_dir: Path) -> None:
    """Copy verified metadata into the cache, each file whole. An interruption leaves a mix of accepted files."""
    metadata_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted(scratch.rglob("*.json")):
        target = metadata_dir / path.relative_to(scratch)
        if path.is_symlink():  # root.json: python-tuf starts from the anchor, not from it
            continue
        data = read_regular(path, MAX_CACHED_BYTES)
        if _read_or_none(target) != data:  # a refresh that learns nothing writes nothing
            write_whole(target, data, mode=0o600)


def _store_roots(anchor: Anchor, scratch: Path, metadata_dir: Path) -> None:
    with contextlib.suppress(RootError):  # roots that are none are not kept: the refusal says so already
        for newer in known_anchors(anchor, scratch)[1:]:
            target = metadata_dir / ROOTS / f"{newer.version}.root.json"
            if not target.exists():
                write_whole(target, newer.root, mode=0o600)


def _verify_role(anchor: Anchor, data: bytes, snapshot: Snapshot, model: str, now: datetime) -> Metadata[Targets]:
    """The role of `model` as it lies in the cache, verified independently of the targets key."""
    role = parse_role(data, model)
    listed = snapshot.meta[f"{model}.json"]
    try:
        listed.verify_length_and_hashes(data)
    except tuf.LengthOrHashMismatchError as error:
        raise DigestMismatchError(f"role {model}: expected the bytes that the snapshot lists, got others") from error
    if role.signed.version != listed.version:
        raise RollbackError(f"role {model}: expected version {listed.version}, got {role.signed.version}")
    check_expiry(role, now, f"role {model}")
    check_bounds(role, now, f"role {model}")
    tally = count_approvals(data, (), anchor, model)
    if not tally.signed:
        names = ", ".join(tally.may_sign)
        raise SignatureError(f"role {model}: expected signatures of the pinned reviewers ({names}), got others'")
    tally.require_complete()
    return role


class UpdaterAtTime(Updater):
    """python-tuf's client at the caller's time, not the machine's: setting it back must not make old metadata valid."""

    def __init__(self, root: bytes, metadata_dir: Path, fetcher: FetcherInterface, now: datetime) -> None:
        config = UpdaterConfig(max_root_rotations=64, max_delegations=4)
        super().__init__(str(metadata_dir), METADATA, None, TARGETS, fetcher, config, bootstrap=root)
        self._trusted_set.reference_time = now


class SourceFetcher(FetcherInterface):
    """A `Fetch` for python-tuf: reads at once, so that errors are raised where python-tuf catches them."""

    def __init__(self, fetch: Fetch) -> None:
        self._source = fetch
        self._limit = MAX_METADATA_BYTES

    def download_file(self, url: str, max_length: int) -> AbstractContextManager[IO[bytes]]:  # type: ignore[override]
        """As in python-tuf, also within our own limit."""
        # python-tuf tells _fetch no limit; a source that knows it need not even open a body that is longer.
        self._limit = min(max_length, max(MAX_METADATA_BYTES, MAX_RELEASE_BYTES))
        return super().download_file(url, self._limit)

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            return iter([b"".join(self._limit_length(self._source(url, self._limit)))])
        except FileNotFoundError as error:
            raise tuf.DownloadHTTPError(f"expected {url}, got none: not found at the source", 404) from error

    def _limit_length(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        total = 0
        for piece in pieces:
            total += len(piece)
            yield piece
            if total > self._limit:
                return  # one piece too many: python-tuf sees the length and refuses


def _download(updater: Updater, info: Any) -> bytes:
    if info.length > MAX_RELEASE_BYTES:
        raise DigestMismatchError(f"{info.path}: expected at most {MAX_RELEASE_BYTES} bytes, got {info.length}")
    with tempfile.TemporaryDirectory(prefix="twinseal-") as folder:
        return read_regular(Path(updater.download_target(info, str(Path(folder, "release.json")))), MAX_RELEASE_BYTES)


def _read_cached(metadata_dir: Path, name: str) -> bytes:
    try:
        return read_regular(metadata_dir / f"{name}.json", MAX_METADATA_BYTES)
    except OSError as error:
        # The targets key can list a target itself, or delegate elsewhere: then the role was never loaded.
        raise SignatureError(f"role {name}: expected metadata signed by its own role, got none") from error


def _translate_errors(action: Callable[[], Any], model: str) -> Any:
    """The result of an action of python-tuf; its errors become ours."""
    try:
        return action()
    except TwinsealError:
        raise
    except Exception as error:
        # Any exception of the library over hostile bytes becomes a refusal, never a traceback.
        ours = _translate_error(error, model)
        log.warning("release.refused", model=model, kind=type(ours).__name__, reason=str(ours))
        raise ours from error


# python-tuf says of a role that an older snapshot lists "Expected a.json version 1, got 2", where 2 is what was seen.
_UPSIDE_DOWN = re.compile(r"Expected (\S+)\.json version (\d+), got (\d+)")
_SEEN_BEFORE = r"role \1: expected version >= \3, as seen before, got \2"
_REMEDIES: dict[type[TwinsealError], str] = {
    RollbackError: "Somebody serves metadata older than this twin has seen: look at MLflow's store. Nothing changed.",
    ExpiredError: "The registrar must publish again; look at this machine's clock too.",
    DigestMismatchError: "Metadata was changed or mixed on its way: look at MLflow's store. Nothing was installed.",
    ThresholdError: "A reviewer's or custodian's key was replaced, or signatures are missing: ask the registrar.",
    SignatureError: "The keys of this twin's anchor did not sign it. Ask the custodians. Nothing was installed.",
    RegistryError: (
        "Is --from right? A server answers: curl URL/health; a mirror has the folders metadata/, targets/ and "
        "candidates/. What is registered, where models are made: twinseal review list"
    ),
    EvidenceError: "The registry offers something else than a release of this model: ask the registrar.",
    RootError: "A root does not follow from this twin's anchor: ask the custodians. Nothing was installed.",
}


def _translate_error(error: Exception, model: str) -> TwinsealError:
    cause = error.__cause__
    if isinstance(error, tuf.DownloadError) and isinstance(cause, TwinsealError):
        return cause
    text = f"{model}: {_UPSIDE_DOWN.sub(_SEEN_BEFORE, str(error))}"
    kinds: tuple[tuple[type[Exception], type[TwinsealError]], ...] = (
        (tuf.ExpiredMetadataError, ExpiredError),
        (tuf.BadVersionNumberError, RollbackError),
        (tuf.LengthOrHashMismatchError, DigestMismatchError),
        (tuf.DownloadLengthMismatchError, DigestMismatchError),
        (tuf.DownloadError, RegistryError),
        (OSError, RegistryError),
    )
    for foreign, ours in kinds:
        if isinstance(error, foreign):
            return ours(text)
    if isinstance(error, tuf.UnsignedMetadataError):
        return _signature_error(error, text)
    if "is missing info for" in text:  # python-tuf has no type of its own for a role that vanished from the snapshot
        return RollbackError(text)
    return SignatureError(text)


def _signature_error(error: Exception, text: str) -> TrustError:
    """Some signatures, but too few: ThresholdError; none: SignatureError. Only python-tuf's text tells them apart."""
    match = _SIGNED_BY.search(str(error))
    return ThresholdError(text) if match and match[1] != "0" else SignatureError(text)

"""The audit log: the tree against vectors that are not ours, crashes at every step, and every way to tamper with it.

The attacks are `tests.trust.plain_log`'s, which imports nothing of ours.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trust import plain_log
from twinseal.digests import canonical_json
from twinseal.errors import AuditError, TrustError
from twinseal.trust.audit import Entry, Log, disk, tree, verify
from twinseal.trust.audit.entry import EVENTS, MAX_ENTRY_BYTES, SCHEMA, truncate

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def entry(number: int, **changes: Any) -> Entry:
    return replace(Entry(NOW, "approved", "alice", "pump-rul", number, "ab" * 32, {"comment": "seen"}), **changes)


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = Log(tmp_path_factory.mktemp("audit") / "log")
    for number in range(7):
        log.append(entry(number))
    return log.path


@pytest.fixture
def log(seven: Path, tmp_path: Path) -> Log:
    """A log of seven entries, each under a checkpoint of its own."""
    return Log(Path(shutil.copytree(seven, tmp_path / "log")))


# --- the tree -------------------------------------------------------------------------------------------------------

# Of Certificate Transparency's reference implementation: leaves, the roots of the first 1 to 8, and three proofs.
LEAVES = [bytes.fromhex(leaf) for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
LEAVES += [bytes(range(0x60, 0x70))]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
INCLUSION = {
    0: (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    5: (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
}
CONSISTENCY_6_8 = (
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
)


def grown(leaves: list[bytes], *, step: int) -> tuple[tree.Read, bytes]:
    """Tiles in memory, and the root, of a tree that grew by `step` leaves at a time."""
    kept: dict[str, bytes] = {}

    def read(*tile: int) -> bytes:
        return kept.get(tree.path_of(*tile), b"")

    root = tree.EMPTY_ROOT
    for size in range(0, len(leaves), step):
        made, root = tree.grow(read, size, leaves[size : size + step])
        assert not set(kept) & set(made), "a tile is written once"
        kept.update(made)
    return read, root


@pytest.mark.parametrize("size", range(1, 9))
def test_the_root_is_that_of_the_reference_vectors(size: int) -> None:
    read, root = grown(LEAVES[:size], step=1)
    frontier = tree.Frontier()
    for leaf in LEAVES[:size]:
        frontier.push(tree.leaf_hash(leaf))
    assert [ROOTS[size - 1]] * 3 == [root.hex(), tree.root(read, size).hex(), frontier.root.hex()]


def test_the_proofs_are_those_of_the_reference_vectors() -> None:
    read, _ = grown(LEAVES, step=3)
    for index, proof in INCLUSION.items():
        assert proof == tuple(item.hex() for item in tree.inclusion(read, index, 8))
    assert CONSISTENCY_6_8 == tuple(item.hex() for item in tree.consistency(read, 6, 8))


@pytest.mark.parametrize(("size", "step"), [(255, 100), (256, 1), (257, 257), (600, 7), (65_600, 32_000)])
def test_tiles_give_the_root_of_the_plain_tree_and_proofs_that_plain_code_accepts(size: int, step: int) -> None:
    leaves = [str(number).encode() for number in range(size)]
    read, root = grown(leaves, step=step)
    hashes = [plain_log.leaf_hash(leaf) for leaf in leaves]
    assert plain_log.tree_hash(hashes) == root
    for index in {0, 1, size // 2, size - 1}:
        assert plain_log.included(hashes[index], index, size, tree.inclusion(read, index, size), root)
        old = index + 1
        if old < size:
            proof = tree.consistency(read, old, size)
            assert plain_log.consistent(old, size, proof, plain_log.tree_hash(hashes[:old]), root)


# --- entries --------------------------------------------------------------------------------------------------------

texts = st.text(max_size=40)
entries = st.builds(
    Entry,
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(EVENTS),
    texts.filter(bool),
    texts,
    st.integers(0, 2**31),
    st.just("") | st.text("0123456789abcdef", min_size=64, max_size=64),
    st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True), texts, max_size=5),
)


@given(entries)
def test_entries_round_trip(made: Entry) -> None:
    assert made == Entry.from_bytes(made.to_bytes())


@given(st.binary(max_size=300))
def test_an_entry_from_any_bytes_is_one_or_our_error(data: bytes) -> None:
    with pytest.raises(AuditError):
        Entry.from_bytes(data)


def _entry_bytes(**changes: Any) -> bytes:
    value = {"schema": SCHEMA, "time": "2026-03-01T12:00:00Z", "event": "approved", "actor": "alice", "model": "m"}
    value |= {"version": 1, "sha256": "", "details": {}} | changes
    return canonical_json({name: item for name, item in value.items() if item is not None})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (_entry_bytes(more=1), "expected exactly actor, details"),
        (_entry_bytes(actor=None), "expected exactly actor, details"),
        (_entry_bytes(schema="https://twinseal.dev/audit/v2"), "expected exactly"),
        (b" " + _entry_bytes(), "expected canonical JSON"),
        (_entry_bytes().replace(b'"version":1', b'"version":1,"version":1'), "a key is given twice"),
        (_entry_bytes(event="forgotten"), "expected one of anchored, submitted"),
        (_entry_bytes(event=["approved"]), "expected one of anchored, submitted"),
        (_entry_bytes(time="2026-03-01T12:00:00+00:00"), "expected a time as"),
        (_entry_bytes(time="2026-03-01T12:00:0٣Z"), "expected a time as|canonical"),
        (_entry_bytes(time=3), "expected a time as"),
        (_entry_bytes(actor=""), "expected names"),
        (_entry_bytes(actor=7), "expected names"),
        (_entry_bytes(actor="x" * 101), "expected names"),
        (_entry_bytes(version=-1), "expected a version"),
        (_entry_bytes(version=True), "expected a version"),
        (_entry_bytes(version=1.0), "expected a version"),
        (_entry_bytes(sha256="AB" * 32), "expected a SHA-256"),
        (_entry_bytes(sha256=0), "expected a SHA-256"),
        (_entry_bytes(details=[]), "expected at most 12 details"),
        (_entry_bytes(details={"comment": "x" * 501}), "expected details in words"),
        (_entry_bytes(details={"Comment": "x"}), "expected details in words"),
        (_entry_bytes(details={"comment": 1}), "expected details in words"),
        (_entry_bytes(details={f"d{number}": "" for number in range(13)}), "expected at most 12 details"),
        (b"[" * 5000, "expected JSON"),
        (b"x" * (MAX_ENTRY_BYTES + 1), "expected at most 16384 bytes"),
    ],
)
def test_malformed_entries_are_refused(data: bytes, says: str) -> None:
    assert _entry_bytes() == Entry.from_bytes(_entry_bytes()).to_bytes()
    with pytest.raises(AuditError, match=says):
        Entry.from_bytes(data)


def test_words_from_outside_are_cut_and_lose_their_passwords() -> None:
    error = TrustError("https://user:secret@example.org/x \ud800 " + "é" * 600)
    refused = entry(1).as_refusal(error)
    assert ("refused", "approved", "TrustError") == (
        refused.event,
        refused.details["attempted"],
        refused.details["error"],
    )
    assert refused.details["message"].startswith("https://example.org/x ? é")
    assert 500 == len(refused.details["message"])
    assert refused == Entry.from_bytes(refused.to_bytes())
    assert "a…" == truncate("abc", 2)


# --- appending and proving ------------------------------------------------------------------------------------------


def test_what_was_appended_is_read_proven_and_verified(log: Log) -> None:
    assert 7 == log.append(entry(7), entry(8))
    assert [entry(number) for number in range(9)] == [item for _, item in log.read()]
    assert [(7, entry(7)), (8, entry(8))] == log.read(-2)
    done = verify(log.path)
    assert (9, 9) == (done.size, done.checkpoints)  # 0 to 7 entries, and 9
    assert plain_log.open_checkpoint(done.checkpoint, done.vkey)[0] == 9
    assert log.head().vkey == (log.path / "vkey").read_text().strip()
    for number in range(9):
        proof = log.prove(number)
        size, root = plain_log.open_checkpoint(proof["checkpoint"], proof["vkey"])
        hashes = [bytes.fromhex(item) for item in proof["hashes"]]
        assert plain_log.included(plain_log.leaf_hash(proof["entry"].encode()), number, size, hashes, root)
    for wrong in (-1, 9):
        with pytest.raises(AuditError, match="entry: expected one from 0 to 8"):
            log.prove(wrong)
    with pytest.raises(AuditError, match="size: expected one from 0 to 9, got 10"):
        log.prove_consistency(10)
    assert ([], []) == (log.prove_consistency(0)["hashes"], log.prove_consistency(9)["hashes"])


def test_a_log_over_the_edge_of_a_tile_keeps_no_partial_tile_below_it(log: Log) -> None:
    log.append(*map(entry, range(7, 254)))
    for number in range(254, 258):
        log.append(entry(number))
    assert 258 == verify(log.path).size
    names = sorted(path.relative_to(log.path / "tile").as_posix() for path in (log.path / "tile").rglob("*"))
    assert ["0/000", "1/000.p/1", "entries/000"] == [
        name for name in names if name in ("0/000", "1/000.p/1", "entries/000")
    ]
    assert not (log.path / "tile/0/000.p").exists()
    assert not (log.path / "tile/entries/000.p").exists()
    assert plain_log.read_entries(log.path, 258) == [entry(number).to_bytes() for number in range(258)]


def test_the_log_and_its_key_are_its_owners_alone(log: Log) -> None:
    for path in [log.path, *log.path.rglob("*")]:
        expected = 0o700 if path.is_dir() else 0o600
        assert (oct(expected), path) == (oct(path.stat().st_mode & 0o777), path)
    other = Log(log.path.parent / "other")
    other.append(entry(0))
    assert other.head().vkey != log.head().vkey


def test_two_processes_append_at_once_and_none_is_lost(tmp_path: Path) -> None:
    program = f"""
from datetime import UTC, datetime
from pathlib import Path
from twinseal.trust.audit import Entry, Log
import sys
for number in range(50):
    Log(Path({str(tmp_path / "log")!r})).append(Entry(datetime.now(UTC), "approved", sys.argv[1], "m", number))
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", program, name], stdout=subprocess.DEVNULL) for name in ("a", "b")
    ]
    assert [0, 0] == [writer.wait(60) for writer in writers]
    read = [item for _, item in Log(tmp_path / "log").read()]
    for name in ("a", "b"):
        assert list(range(50)) == [item.version for item in read if item.actor == name]
    assert 100 == verify(tmp_path / "log").size


def test_a_log_held_by_another_is_waited_for_but_not_forever(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LOCK_SECONDS", 0.1)
    with (
        disk.lock(log.path / "lock", alone=True),
        pytest.raises(AuditError, match="expected the audit log to be free"),
    ):
        log.append(entry(7))
    assert 7 == log.append(entry(7))


# --- crashes and failing disks --------------------------------------------------------------------------------------

OPERATIONS = ("open", "mkdir", "link", "replace", "rename", "unlink", "rmdir", "fsync", "ftruncate")


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


@contextmanager
def stopped_before(
    operation: int, patch: pytest.MonkeyPatch, error: BaseException | None = None
) -> Iterator[list[str]]:
    """Stop before the n-th operation on files: dead for good, or, with an `error`, failing once."""
    done: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            done.append(name)
            if len(done) - 1 == operation and error is not None:
                raise error
            if len(done) - 1 >= operation and error is None:
                raise Killed
            return real(*args, **kwargs)

        return call

    with patch.context() as patched:
        for name in OPERATIONS:
            patched.setattr(os, name, counted(name, getattr(os, name)))
        try:
            yield done
        except Killed:
            done.append("killed")


@pytest.mark.parametrize("before", [0, 3, 255])
def test_killed_between_any_two_operations_the_log_verifies_and_goes_on(
    before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Log(tmp_path / "start")
    for size in (before - 3, 2, 1) if before > 3 else (1, 1, 1) if before else ():
        start.append(*map(entry, range(len(start.read()) if start.path.exists() else 0, 1000)[:size]))
    found = set()
    for operation in range(200):
        log = Log(tmp_path / f"log-{operation}")
        if before:
            shutil.copytree(start.path, log.path)
        with stopped_before(operation, monkeypatch) as done:
            log.append(entry(before))
        if (log.path / "checkpoint").exists():
            found.add(verify(log.path).size)
            assert len(log.read()) in (before, before + 1)
        size = log.append(entry(99))
        found.add(size)
        after = [entry(number) for number in range(size)] + [entry(99)]
        assert after == [item for _, item in log.read()]
        assert size + 1 == verify(log.path).size
        if "killed" not in done:
            break
    assert {before, before + 1} == found
    assert 10 < operation < 199


def test_a_disk_that_fails_once_at_any_operation_refuses_and_leaves_a_log_that_goes_on(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = 0
    for operation in range(200):
        copy = Log(tmp_path / f"log-{operation}")
        shutil.copytree(log.path, copy.path)
        with stopped_before(operation, monkeypatch, OSError(28, "No space left on device")) as done:
            try:
                assert 7 == copy.append(entry(7))
            except AuditError as error:
                refused += 1
                assert "No space left on device" in str(error)
        assert copy.append(entry(8)) in (7, 8)
        assert verify(copy.path).size in (8, 9)
        if len(done) <= operation:
            break
    assert refused > 10


@pytest.mark.parametrize("name", ["checkpoints", "checkpoint"])
def test_a_record_torn_at_any_byte_is_taken_away(name: str, log: Log, tmp_path: Path) -> None:
    """What a loss of power leaves of the last write to `checkpoints`; `checkpoint` is replaced whole, never torn."""
    old, history = (log.path / "checkpoint").read_bytes(), (log.path / "checkpoints").read_bytes()
    log.append(entry(7))
    grown = (log.path / "checkpoints").read_bytes()
    for end in range(len(history), len(grown) + 1, 5):
        copy = Log(tmp_path / f"log-{end}")
        shutil.copytree(log.path, copy.path)
        (copy.path / "checkpoints").write_bytes(grown[:end])
        if name == "checkpoints":
            (copy.path / "checkpoint").write_bytes(old)
            assert verify(copy.path).size in (7, 8)
            assert copy.append(entry(9)) in (7, 8)
            assert verify(copy.path).size in (8, 9)
        elif end < len(grown):
            with pytest.raises(AuditError, match="expected the newest checkpoint last"):
                copy.append(entry(9))


def test_a_writer_that_is_really_killed_leaves_a_log_that_goes_on(tmp_path: Path) -> None:
    program = f"""
from datetime import UTC, datetime
from pathlib import Path
from twinseal.trust.audit import Entry, Log
log = Log(Path({str(tmp_path / "log")!r}))
while True:
    print(log.append(Entry(datetime.now(UTC), "approved", "alice")), flush=True)
"""
    kept = 0
    for wait_s in (0.11, 0.23, 0.05):
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(wait_s)
            writer.send_signal(signal.SIGKILL)
            told = [int(line) for line in writer.stdout.read().split("\n") if line.strip().isdigit()]
        size = verify(tmp_path / "log").size
        assert size > max(told, default=kept)  # what was said to be logged is
        kept = size
    assert kept == Log(tmp_path / "log").append(entry(0))


APPEND = """
import resource, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from twinseal.errors import AuditError
from twinseal.trust.audit import Entry, Log, verify
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    for number in range(400):
        Log(folder).append(Entry(datetime.now(UTC), "approved", "alice"))
except AuditError as error:
    print(f"{number} refused: {error}")
print(verify(folder).size)
"""


def _append_until_refused(folder: Path, *before: str, limit: int = 0) -> tuple[int, str, int]:
    command = [*before, sys.executable, "-c", APPEND, str(folder), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if "audit." not in line]
    assert (0, 2) == (done.returncode, len(lines)), done.stdout + done.stderr
    number, _, said = lines[0].partition(" refused: ")
    return int(number), said, int(lines[1])


def test_a_full_disk_refuses_and_the_log_still_verifies(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here: a small disk cannot be mounted")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = f'mount -t tmpfs -o size=128k none {folder} && exec "$@"'
    number, said, size = _append_until_refused(folder / "log", "unshare", "-rm", "sh", "-c", mounted, "sh")
    assert said.endswith("expected to write to the audit log, got No space left on device")
    assert (True, True) == (number > 3, size in (number, number + 1))


def test_a_file_that_may_not_grow_refuses_and_the_log_still_verifies(tmp_path: Path) -> None:
    number, said, size = _append_until_refused(tmp_path / "log", limit=4000)
    assert said.endswith("got File too large")
    assert (True, True) == (number > 3, size in (number, number + 1))
    assert size == Log(tmp_path / "log").append(entry(0))  # once it may grow again


def test_a_folder_that_may_not_be_written_to_refuses(log: Log) -> None:
    """As root, only once the right to write everywhere is given up."""
    before = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    if before and shutil.which("setpriv") is None:
        pytest.skip("root without setpriv: every folder may be written to")
    folders = [log.path, *(path for path in log.path.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    try:
        number, said, size = _append_until_refused(log.path, *before)
    finally:
        for folder in folders:
            folder.chmod(0o700)
    assert (0, "expected to write to the audit log, got Permission denied", 7) == (number, said.split(": ", 1)[1], size)


def _no_key(folder: Path) -> None:
    (folder / "key").unlink()


def _key_and_checkpoints_gone(folder: Path) -> None:
    for name in ("key", "vkey", "checkpoint", "checkpoints"):
        (folder / name).unlink()


def _key_for_all(folder: Path) -> None:
    (folder / "key").chmod(0o640)


def _folder_for_all(folder: Path) -> None:
    folder.chmod(0o777)


def _no_checkpoint(folder: Path) -> None:
    (folder / "checkpoint").unlink()


def _no_history(folder: Path) -> None:
    (folder / "checkpoints").unlink()


def _fifo(folder: Path) -> None:
    (folder / "checkpoint").unlink()
    os.mkfifo(folder / "checkpoint")


def _link(folder: Path) -> None:
    (folder / "key").rename(folder / "elsewhere")
    (folder / "key").symlink_to("elsewhere")


def _endless(folder: Path) -> None:
    (folder / "checkpoint").write_bytes(b"x" * 10_000)


def _newest_entry_edited(folder: Path) -> None:
    edit(folder, 6)


def _newest_hash_edited(folder: Path) -> None:
    path = plain_log.tile(folder, "0", 0, 7)
    path.write_bytes(path.read_bytes()[:-32] + bytes(32))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_no_key, "key: expected the audit log's key, got none"),
        (_key_and_checkpoints_gone, "key: expected the audit log's key, got none"),
        (_key_for_all, "expected a key that its owner alone can read, got mode 0640"),
        (_folder_for_all, "expected a folder that only its owner may write to"),
        (_no_checkpoint, "expected the newest checkpoint, got none"),
        (_no_history, "expected the newest checkpoint last"),
        (_fifo, "checkpoint: expected a regular file"),
        (_link, "key: expected a regular file of the audit log, got none"),
        (_endless, "checkpoint: expected at most 4096 bytes"),
        (_newest_entry_edited, "expected the 7 entries that its tile has the hashes of, got others"),
        (_newest_hash_edited, "expected the 7 entries that were signed, got others"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_log_that_is_not_whole_is_not_appended_to(harm: Callable[[Path], None], says: str, log: Log) -> None:
    harm(log.path)
    before = _content(log.path)
    with pytest.raises(AuditError, match=says):
        log.append(entry(7))
    assert before == _content(log.path)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


# --- tampering ------------------------------------------------------------------------------------------------------


def forged(number: int) -> bytes:
    """Another entry, well formed."""
    return entry(number, actor="mallory").to_bytes()


def edit(folder: Path, number: int) -> None:
    entries = plain_log.read_entries(folder, 7)
    entries[number] = forged(number)
    plain_log.write_tree(folder, entries, bundles_only=True)


def edited(folder: Path) -> None:
    edit(folder, 3)


def edited_with_its_hashes(folder: Path) -> None:
    entries = plain_log.read_entries(folder, 7)
    entries[3] = forged(3)
    plain_log.write_tree(folder, entries)


def edited_into_nonsense(folder: Path) -> None:
    entries = plain_log.read_entries(folder, 7)
    entries[3] = b"not json"
    plain_log.write_tree(folder, entries)


def first_edited(folder: Path) -> None:
    edit(folder, 0)


def _rewrite(folder: Path, change: Callable[[list[bytes]], None]) -> None:
    """As seven entries, whatever there are: the width of a bundle is in its name."""
    entries = plain_log.read_entries(folder, 7)
    change(entries)
    plain_log.write_tree(folder, entries)
    for level in ("entries", "0"):
        plain_log.tile(folder, level, 0, len(entries)).rename(plain_log.tile(folder, level, 0, 7))


def removed(folder: Path) -> None:
    _rewrite(folder, lambda entries: entries.__delitem__(2))


def last_removed(folder: Path) -> None:
    _rewrite(folder, lambda entries: entries.__delitem__(6))


def reordered(folder: Path) -> None:
    _rewrite(folder, lambda entries: entries.insert(1, entries.pop(4)))


def inserted(folder: Path) -> None:
    _rewrite(folder, lambda entries: entries.insert(5, forged(5)))


def appended_unsigned(folder: Path) -> None:
    _rewrite(folder, lambda entries: entries.append(forged(7)))


def torn_bundle(folder: Path) -> None:
    path = plain_log.tile(folder, "entries", 0, 7)
    path.write_bytes(path.read_bytes()[:-400])


def bundle_gone(folder: Path) -> None:
    plain_log.tile(folder, "entries", 0, 7).unlink()


def tile_edited(folder: Path) -> None:
    path = plain_log.tile(folder, "0", 0, 7)
    data = bytearray(path.read_bytes())
    data[32 * 4] ^= 1
    path.write_bytes(data)


def tile_gone(folder: Path) -> None:
    plain_log.tile(folder, "0", 0, 7).unlink()


def cut_to_five_but_not_its_checkpoints(folder: Path) -> None:
    plain_log.write_tree(folder, plain_log.read_entries(folder, 7)[:5])
    (folder / "checkpoint").write_bytes(plain_log.records(folder)[5])


def cut_to_six_but_not_its_checkpoints(folder: Path) -> None:
    """What a killed append leaves has all its entries; this has not."""
    plain_log.write_tree(folder, plain_log.read_entries(folder, 7)[:6])
    (folder / "checkpoint").write_bytes(plain_log.records(folder)[6])


def signed_by_another_key(folder: Path) -> None:
    other = Log(folder.parent / "other")
    other.append(*[entry(number) for number in range(7)])
    for name in ("checkpoint", "checkpoints"):
        shutil.copy(other.path / name, folder / name)


def one_checkpoint_of_another_key(folder: Path) -> None:
    other = Log(folder.parent / "other")
    other.append(*[entry(number) for number in range(3)])
    notes = plain_log.records(folder)
    notes[3] = (other.path / "checkpoint").read_bytes()
    plain_log.write_records(folder, notes)


def checkpoint_says_another_size(folder: Path) -> None:
    path = folder / "checkpoint"
    path.write_bytes(path.read_bytes().replace(b"\n7\n", b"\n6\n"))


def checkpoints_swapped(folder: Path) -> None:
    notes = plain_log.records(folder)
    notes[3], notes[4] = notes[4], notes[3]
    plain_log.write_records(folder, notes)


def swapped_key(folder: Path) -> None:
    other = Log(folder.parent / "other")
    other.append(entry(0))
    shutil.copy(other.path / "key", folder / "key")


def swapped_verifier_key(folder: Path) -> None:
    other = Log(folder.parent / "other")
    other.append(entry(0))
    shutil.copy(other.path / "vkey", folder / "vkey")


@pytest.mark.parametrize(
    ("attack", "bad", "says"),
    [
        (edited, 3, "entry 3: expected the one that was signed, got another"),
        (edited_with_its_hashes, 3, "entry 3: expected the one that was signed"),
        (edited_into_nonsense, 3, "entry 3: expected JSON"),
        (first_edited, 0, "entry 0: expected the one that was signed"),
        (removed, 2, "entry 2: expected the one that was signed"),
        (last_removed, 6, "entry 6 is the first bad one: .* expected 7 entries, got 6"),
        (reordered, 1, "entry 1: expected the one that was signed"),
        (inserted, 5, "entry 5: expected the one that was signed"),
        (appended_unsigned, 7, "entry 7 is the first bad one: .* expected 7 entries, got more"),
        (torn_bundle, 5, "entry 5 is the first bad one: .* got a torn one"),
        (bundle_gone, 0, "entry 0 is the first bad one: .* expected 7 entries, got 0"),
        (tile_edited, 4, "expected the hash of entry 4 as signed, got another"),
        (tile_gone, 0, "expected the hash of entry 0 as signed, got another"),
        (cut_to_five_but_not_its_checkpoints, None, "checkpoints: expected the newest checkpoint last, got another"),
        (cut_to_six_but_not_its_checkpoints, 0, "expected 7 entries, got 0"),
        (signed_by_another_key, None, "expected a checkpoint of twinseal.dev/log/.*, got one of twinseal.dev/log/"),
        (one_checkpoint_of_another_key, None, "checkpoints: expected a checkpoint of twinseal.dev/log/"),
        (checkpoint_says_another_size, None, "checkpoint: expected the signature of twinseal.dev/log/.*, got another"),
        (checkpoints_swapped, 4, "checkpoints: expected a size over 4, got 3"),
        (swapped_key, None, "key: expected the key of twinseal.dev/log/"),
        (swapped_verifier_key, None, "key: expected the key of twinseal.dev/log/|expected a checkpoint of"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_tampering_is_seen_and_the_first_bad_entry_named(
    attack: Callable[[Path], None], bad: int | None, says: str, log: Log
) -> None:
    assert 7 == verify(log.path).size
    attack(log.path)
    with pytest.raises(AuditError, match=says) as refusal:
        verify(log.path)
    assert bad == refusal.value.entry
    assert refusal.value.remedy


@pytest.mark.parametrize("attack", [edited, edited_with_its_hashes, reordered, removed, torn_bundle, bundle_gone])
def test_tampering_is_not_shown_or_proven_either(attack: Callable[[Path], None], log: Log) -> None:
    attack(log.path)
    with pytest.raises(AuditError):
        log.read()
    with pytest.raises(AuditError):
        log.prove(3)


@pytest.mark.parametrize("level", ["0", "1"])
def test_tampering_in_a_log_of_many_tiles_is_named_too(level: str, log: Log) -> None:
    log.append(*map(entry, range(7, 700)))
    assert 700 == verify(log.path).size
    if level == "1":
        path = plain_log.tile(log.path, "1", 0, 2)
        path.write_bytes(path.read_bytes()[:32] + bytes(32))
        with pytest.raises(AuditError, match=r"tile/1/000\.p/2: expected the roots of the tiles below it, got others"):
            verify(log.path)
        return
    entries = plain_log.read_entries(log.path, 700)
    entries[300], entries[600] = forged(300), forged(600)
    plain_log.write_tree(log.path, entries, bundles_only=True)
    with pytest.raises(AuditError, match="entry 300: expected the one that was signed") as refusal:
        verify(log.path)
    assert 300 == refusal.value.entry


def test_a_tail_cut_off_whole_is_seen_by_a_checkpoint_kept_elsewhere(log: Log) -> None:
    kept = (log.path / "checkpoint").read_bytes()
    assert 7 == verify(log.path, against=kept).kept_size
    plain_log.write_tree(log.path, plain_log.read_entries(log.path, 7)[:4])
    plain_log.write_records(log.path, plain_log.records(log.path)[:5])
    assert 4 == verify(log.path).size  # an older log, whole: nothing in it says that there was more
    with pytest.raises(AuditError, match="expected at least 7 entries, .* got 4: the end was cut off") as refusal:
        verify(log.path, against=kept)
    assert 4 == refusal.value.entry


def test_a_log_written_anew_with_its_own_key_is_a_fork(log: Log) -> None:
    """What whoever holds the machine can do: only a checkpoint that was kept elsewhere shows it."""
    kept, key = plain_log.records(log.path)[4], (log.path / "key").read_bytes()
    assert 4 == verify(log.path, against=kept).kept_size
    shutil.rmtree(log.path)
    log.path.mkdir(mode=0o700)
    (log.path / "key").write_bytes(key)
    (log.path / "key").chmod(0o600)
    for number in range(8):
        log.append(entry(number, actor="mallory" if number == 2 else "alice"))
    assert 8 == verify(log.path).size
    with pytest.raises(AuditError, match="to begin with the 4 entries of the kept checkpoint, .* it is a fork"):
        verify(log.path, against=kept)


def test_a_log_written_anew_with_a_key_of_its_own_is_seen_by_the_pinned_key(log: Log) -> None:
    pinned = log.head().vkey
    assert verify(log.path, vkey=pinned).pinned
    kept = (log.path / "checkpoint").read_bytes()
    shutil.rmtree(log.path)
    for number in range(7):
        log.append(entry(number, actor="mallory"))
    assert not verify(log.path).pinned
    with pytest.raises(AuditError, match="vkey: expected the key twinseal.dev/log/"):
        verify(log.path, vkey=pinned)
    with pytest.raises(AuditError, match="kept checkpoint: expected a checkpoint of"):
        verify(log.path, against=kept)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text + "\n",
        lambda text: text.replace("\n7\n", "\n07\n"),
        lambda text: text.replace("\n7\n", "\n 7\n"),
        lambda text: text.replace("\n7\n", "\n٧\n"),
        lambda text: text.replace("\n7\n", "\n-7\n"),
        lambda text: text.replace("\n7\n", "\n7\r\n"),
        lambda text: text.replace("\n\n", "\nextension\n\n"),
        lambda text: text.replace("\n\n", "\n"),
        lambda text: text.replace("— ", "—  "),
        lambda text: text + text.splitlines(keepends=True)[-1][:-3] + "\n",
        lambda text: text.split("\n— ")[0],
        lambda text: "\x00" * 100,
    ],
)
def test_a_checkpoint_has_one_form(change: Callable[[str], str], log: Log) -> None:
    text = (log.path / "checkpoint").read_text()
    assert verify(log.path, against=text.encode()).kept_size == 7
    with pytest.raises(AuditError, match="kept checkpoint: expected a checkpoint"):
        verify(log.path, against=change(text).encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda vkey: "",
        lambda vkey: "x",
        lambda vkey: vkey + " ",
        lambda vkey: vkey.replace("twinseal", "twinsea1"),  # its id is no longer that of its key
        lambda vkey: vkey.replace("+A", "+B", 1),
        lambda vkey: vkey[:-4],
    ],
)
def test_a_verifier_key_has_one_form(change: Callable[[str], str], log: Log) -> None:
    vkey = log.head().vkey
    assert verify(log.path, vkey=vkey).size == 7
    with pytest.raises(AuditError, match="verifier key: expected an Ed25519 verifier key"):
        verify(log.path, vkey=change(vkey))


@given(st.binary(max_size=200))
def test_a_checkpoint_from_any_bytes_is_our_error(data: bytes) -> None:
    from twinseal.trust.audit import note

    with pytest.raises(AuditError):
        note.parse(data, "checkpoint")


def test_where_there_is_no_log_it_is_said_how_one_begins(tmp_path: Path) -> None:
    for ask in (Log(tmp_path / "log").head, Log(tmp_path / "log").read, lambda: verify(tmp_path / "log")):
        with pytest.raises(AuditError, match="expected an audit log, got none") as refusal:
            ask()  # type: ignore[operator]
        assert refusal.value.remedy.startswith("It begins with the first decision made here.")
        assert "twinseal audit show --state DIR" in refusal.value.remedy
    assert not (tmp_path / "log").exists()


def test_the_refusal_that_cannot_be_logged_stands_and_says_so(log: Log) -> None:
    error = TrustError("version: expected 2, got 1", remedy="ask")
    with pytest.raises(TrustError) as refusal, log.log_refusal(entry(7)):
        raise error
    assert ("refused", "ask") == (log.read(-1)[0][1].event, refusal.value.remedy)
    (log.path / "key").unlink()
    with pytest.raises(TrustError, match="version: expected 2, got 1") as refusal, log.log_refusal(entry(7)):
        raise error
    assert "ask This refusal is not in the audit log: " in refusal.value.remedy
    with pytest.raises(OSError, match="other") as failure, log.log_refusal(entry(7)):
        raise OSError("other")
    assert "This refusal is not in the audit log" in failure.value.__notes__[0]


def test_entries_keep_their_time_in_utc(log: Log) -> None:
    from datetime import timezone

    late = entry(1, time=datetime(2026, 3, 1, 14, 0, 0, 5, tzinfo=timezone(timedelta(hours=2))))
    assert (NOW, b'"time":"2026-03-01T12:00:00Z"' in late.to_bytes()) == (late.time, True)
    with pytest.raises(AuditError, match="expected a time with its zone"):
        entry(1, time=datetime(2026, 3, 1))

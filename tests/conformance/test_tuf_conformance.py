"""Is the twin's client a TUF client? Cases as the TUF project's conformance suite asks them, by clause of TUF 1.0.

Each: an honest repository that the client follows; then something wrong; then the refusal, and what the client trusts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Key, SSlibKey
from tuf.api.metadata import DelegatedRole, Metadata, MetaFile

from tests.conformance import tuf_client
from tests.conformance.repository import Repository, serving

ROOT = Path(__file__).parents[2]
PAST = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)


class Client:
    """The client under test, by its command line."""

    def __init__(self, folder: Path, repository: Repository) -> None:
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        self._repository, self._root = repository, folder / "initial.json"
        self.targets.mkdir()

    def init(self, root: bytes) -> int:
        self._root.write_bytes(root)
        return tuf_client.main(["--metadata-dir", str(self.metadata), "init", str(self._root)])

    def refresh(self) -> int:
        return tuf_client.main([*self._where(), "refresh"])

    def download(self, *names: str) -> int:
        about = [word for name in names for word in ("--target-name", name)] + ["--target-dir", str(self.targets)]
        return tuf_client.main(
            [*self._where(), *about, "--target-base-url", self._repository.url + "/targets", "download"]
        )

    def trusted(self) -> dict[str, int]:
        """The versions of what the client trusts, by role."""
        files = sorted(self.metadata.glob("*.json"))
        return {unquote(path.stem): Metadata.from_file(str(path)).signed.version for path in files}

    def artifacts(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.targets.rglob("*")) if path.is_file()]

    def _where(self) -> list[str]:
        return ["--metadata-dir", str(self.metadata), "--metadata-url", self._repository.url + "/metadata"]


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serving(Repository()) as served:
        yield served


@pytest.fixture
def client(repository: Repository, tmp_path: Path) -> Client:
    """A client that trusts the first root of the repository."""
    made = Client(tmp_path, repository)
    assert 0 == made.init(repository.files["metadata/1.root.json"])
    assert [] == repository.asked
    return made


def versions(root: int = 1, targets: int = 1, snapshot: int = 1, timestamp: int = 1) -> dict[str, int]:
    return {"root": root, "targets": targets, "snapshot": snapshot, "timestamp": timestamp}


# The workflow (clause 5)


def test_a_refresh_asks_for_what_the_workflow_says_and_keeps_it(repository: Repository, client: Client) -> None:
    assert 0 == client.refresh()
    assert ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"] == repository.metadata_asked()
    assert versions() == client.trusted()
    repository.asked.clear()
    assert 0 == client.refresh()
    assert ["2.root.json", "timestamp.json"] == repository.metadata_asked()


def test_the_command_line_speaks_the_suites_protocol(repository: Repository, tmp_path: Path) -> None:
    root = tmp_path / "root.json"
    root.write_bytes(repository.files["metadata/1.root.json"])
    repository.add_artifact("targets", "a/b.txt", b"content")
    repository.publish("targets")
    common = [sys.executable, "tests/conformance/tuf_client.py", "--metadata-dir", str(tmp_path / "metadata")]
    url = ["--metadata-url", f"{repository.url}/metadata"]
    about = [
        "--target-name",
        "a/b.txt",
        "--target-base-url",
        f"{repository.url}/targets",
        "--target-dir",
        str(tmp_path),
    ]
    for command in ([*common, "init", str(root)], [*common, *url, "refresh"], [*common, *url, *about, "download"]):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ)
        assert (0, "") == (done.returncode, done.stderr)
    assert b"content" == (tmp_path / "a%2Fb.txt").read_bytes()
    repository.files.clear()
    done = subprocess.run([*common, *url, "refresh"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert 1 == done.returncode


def test_a_download_refreshes_first(repository: Repository, client: Client) -> None:
    assert 1 == client.download("no-such-artifact")
    assert versions() == client.trusted()


def test_a_first_root_that_is_none_leads_nowhere(repository: Repository, client: Client) -> None:
    root = repository.files["metadata/1.root.json"]
    for wrong in (root.replace(b'"version":1', b'"version":"1"'), root[:-20], root.replace(b'"sig":"', b'"sig":"00')):
        assert wrong != root
        client.init(wrong)
        assert 1 == client.refresh()
    assert [] == repository.asked


def test_fields_that_tuf_does_not_know_are_under_the_signature(repository: Repository, client: Client) -> None:
    repository.root.unrecognized_fields["x-more"] = {"a": [1, "b"]}
    repository.root.keys[repository.root.roles["root"].keyids[0]].unrecognized_fields["x-key"] = "value"
    honest = repository.publish_root()
    repository.files["metadata/2.root.json"] = honest.replace(b'"value"', b'"other"')
    assert 1 == client.refresh()
    repository.files["metadata/2.root.json"] = honest
    assert 0 == client.refresh()
    assert 2 == client.trusted()["root"]


def test_a_repository_without_consistent_snapshots_is_followed(repository: Repository, client: Client) -> None:
    repository.root.consistent_snapshot = False
    repository.publish_root()
    repository.add_artifact("targets", "a.txt", b"content")
    repository.publish("targets")
    repository.files["targets/a.txt"] = b"content"
    assert 0 == client.download("a.txt")
    assert ["timestamp.json", "snapshot.json", "targets.json"] == repository.metadata_asked()[-3:]
    assert [b"content"] == client.artifacts()


# Root rotation (clause 5.3): each root is keys, threshold, signers

ROTATIONS = {
    "the only key replaced": [("1", 1, "1"), ("2", 1, "12"), ("2", 1, "2")],
    "signatures of strangers beside": [("1", 1, "314"), ("2", 1, "3214"), ("2", 1, "324")],
    "other signers of one quorum each time": [("01234", 3, "024"), ("01234", 3, "041"), ("01234", 3, "013")],
    "one of five replaced": [("01234", 3, "024"), ("01345", 3, "041")],
    "one of five replaced, both quorums": [("01234", 3, "024"), ("01345", 3, "0245"), ("01345", 3, "045")],
    "all of five replaced": [("01234", 3, "024"), ("56789", 3, "024567"), ("56789", 3, "567")],
    "threshold raised": [("123", 1, "1"), ("123", 2, "12")],
    "threshold lowered": [("123", 2, "12"), ("123", 1, "12"), ("123", 1, "1")],
}
BAD_ROTATIONS = {
    "not signed by the old key": [("1", 1, "1"), ("2", 1, "234")],
    "not signed by the new key": [("1", 1, "1"), ("2", 1, "134")],
    "too few of the new": [("01234", 3, "024"), ("01345", 3, "024")],
    "too few of the old": [("01234", 3, "024"), ("01345", 3, "045")],
    "new threshold not reached": [("123", 1, "1"), ("123", 2, "2")],
    "old threshold not reached": [("123", 2, "12"), ("123", 1, "1")],
}


def roots(repository: Repository, steps: list[tuple[str, int, str]]) -> list[bytes]:
    keys = [CryptoSigner.generate_ed25519() for _ in range(10)]
    repository.root.version, made = 0, []
    for held, threshold, signing in steps:
        for keyid in list(repository.root.roles["root"].keyids):
            repository.root.revoke_key(keyid, "root")
        for index in held:
            repository.root.add_key(keys[int(index)].public_key, "root")
        repository.root.roles["root"].threshold = threshold
        repository.signers["root"] = [keys[int(index)] for index in signing]
        made.append(repository.publish_root())
    return made


@pytest.mark.parametrize("steps", ROTATIONS.values(), ids=ROTATIONS)
def test_root_rotates(repository: Repository, client: Client, steps: list[tuple[str, int, str]]) -> None:
    made = roots(repository, steps)
    client.init(made[0])
    assert 0 == client.refresh()
    assert made[-1] == (client.metadata / "root.json").read_bytes()


@pytest.mark.parametrize("steps", BAD_ROTATIONS.values(), ids=BAD_ROTATIONS)
def test_a_rotation_without_both_quorums_is_refused(
    repository: Repository, client: Client, steps: list[tuple[str, int, str]]
) -> None:
    made = roots(repository, steps)
    client.init(made[0])
    assert 1 == client.refresh()
    assert made[-2] == (client.metadata / "root.json").read_bytes()


def test_a_root_of_another_version_than_its_name_is_refused(repository: Repository, client: Client) -> None:
    repository.publish_root()
    third = repository.publish_root()
    repository.files["metadata/2.root.json"] = third
    assert 1 == client.refresh()
    assert 1 == client.trusted()["root"]


def test_no_version_of_the_root_is_skipped(repository: Repository, client: Client) -> None:
    second = repository.publish_root()
    repository.publish_root()
    del repository.files["metadata/2.root.json"]
    assert 0 == client.refresh()  # no next root: the one it has is current
    assert 1 == client.trusted()["root"]
    repository.files["metadata/2.root.json"] = second
    assert 0 == client.refresh()
    assert 3 == client.trusted()["root"]


# Keys and thresholds (clauses 4.2, 5)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_role_rotates_its_key_and_the_old_one_counts_no_more(
    repository: Repository, client: Client, role: str
) -> None:
    assert 0 == client.refresh()
    old = repository.signers[role]
    repository.rotate(role)
    new, repository.signers[role] = repository.signers[role], old
    repository.publish_root()
    repository.publish("targets")
    assert 1 == client.refresh()
    repository.signers[role] = new
    repository.publish("targets")
    assert 0 == client.refresh()
    assert 3 == client.trusted()["targets"]


@pytest.mark.parametrize(("signing", "expected"), [("024", 0), ("234", 0), ("0249", 0), ("04", 1), ("047", 1)])
def test_three_of_five(repository: Repository, client: Client, signing: str, expected: int) -> None:
    keys = [CryptoSigner.generate_ed25519() for _ in range(10)]
    repository.rotate("snapshot")
    for key in keys[:5]:
        repository.root.add_key(key.public_key, "snapshot")
    repository.root.roles["snapshot"].threshold = 3
    repository.signers["snapshot"] = [keys[int(index)] for index in signing]
    repository.publish_root()
    repository.publish_snapshot()
    assert expected == client.refresh()


def test_one_key_listed_twice_counts_once(repository: Repository, client: Client) -> None:
    assert 0 == client.refresh()
    root = repository.root.roles["snapshot"]
    root.threshold = 2
    repository.root.version += 1
    root.keyids *= 2  # signed as it is: python-tuf refuses to read it, so the attacker writes it
    repository.write("root")
    repository.publish_snapshot()
    assert 1 == client.refresh()
    assert 1 == client.trusted()["snapshot"]


def test_one_signature_given_twice_counts_once(repository: Repository, client: Client) -> None:
    repository.add_key("timestamp")
    repository.root.roles["timestamp"].threshold = 2
    repository.publish_root()
    repository.publish("targets")
    assert 0 == client.refresh()
    metadata = Metadata(repository.signed["timestamp"])
    repository.signed["timestamp"].version += 1
    metadata.sign(repository.signers["timestamp"][0])
    value = metadata.to_dict()
    value["signatures"] *= 2
    repository.files["metadata/timestamp.json"] = json.dumps(value).encode()
    assert 1 == client.refresh()
    assert 2 == client.trusted()["timestamp"]


def test_a_keyid_need_not_be_the_keys_digest(repository: Repository, client: Client) -> None:
    """TAP 12: a client takes the identifier that the metadata gives."""
    private = Ed25519PrivateKey.generate()
    own = Key.from_dict("ab" * 32, SSlibKey.from_crypto(private.public_key()).to_dict())
    for keyid in list(repository.root.roles["timestamp"].keyids):
        repository.root.revoke_key(keyid, "timestamp")
    repository.root.add_key(own, "timestamp")
    repository.signers["timestamp"] = [CryptoSigner(private, own)]
    repository.publish_root()
    repository.publish("targets")
    assert 0 == client.refresh()


# Rollback and recovery (clauses 5.4.3, 5.5.5, 5.3.11)


def test_a_timestamp_goes_not_back(repository: Repository, client: Client) -> None:
    old = repository.files["metadata/timestamp.json"]
    repository.publish_timestamp()
    assert 0 == client.refresh()
    repository.files["metadata/timestamp.json"] = old
    assert 1 == client.refresh()
    assert versions(timestamp=2) == client.trusted()


@pytest.mark.parametrize("hashes", [False, True])
def test_a_snapshot_goes_not_back(repository: Repository, client: Client, hashes: bool) -> None:
    repository.hashes = hashes
    repository.publish_snapshot()
    assert 0 == client.refresh()
    repository.signed["snapshot"].version = 1
    repository.publish_timestamp()
    assert 1 == client.refresh()
    assert versions(snapshot=2, timestamp=2) == client.trusted()


@pytest.mark.parametrize("hashes", [False, True])
def test_targets_go_not_back(repository: Repository, client: Client, hashes: bool) -> None:
    repository.hashes = hashes
    repository.publish("targets")
    assert 0 == client.refresh()
    repository.signed["targets"].version = 1
    repository.list("targets")
    repository.publish_snapshot()
    assert 1 == client.refresh()
    assert 2 == client.trusted()["targets"]


def test_a_snapshot_forgets_no_role(repository: Repository, client: Client) -> None:
    repository.delegate("targets", DelegatedRole("A", [], 1, False, ["*"]))
    repository.list("A")
    repository.publish("targets")
    assert 0 == client.refresh()
    del repository.signed["snapshot"].meta["A.json"]
    repository.publish_snapshot()
    assert 1 == client.refresh()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_after_a_fast_forward_a_new_key_lets_versions_start_again(
    repository: Repository, client: Client, role: str
) -> None:
    repository.signed[role].version = 99_999
    if role == "targets":
        repository.list("targets")
    repository.publish_snapshot()
    assert 0 == client.refresh()
    assert client.trusted()[role] >= 99_999
    for name in ("snapshot", "timestamp"):  # clause 5.3.11: either one's key is rotated, both are forgotten
        repository.rotate(name)
    repository.publish_root()
    repository.signed[role].version = 1
    if role == "targets":
        repository.list("targets")
    repository.publish_snapshot()
    assert 0 == client.refresh()
    assert client.trusted()[role] <= 3


def test_a_timestamp_of_the_same_version_replaces_nothing(repository: Repository, client: Client) -> None:
    assert 0 == client.refresh()
    kept = (client.metadata / "timestamp.json").read_bytes()
    repository.signed["timestamp"].snapshot_meta = MetaFile(100)
    repository.write("timestamp")
    assert 0 == client.refresh()
    assert kept == (client.metadata / "timestamp.json").read_bytes()


# Expiry (clauses 5.3.10, 5.4.4, 5.5.6, 5.6.5)


def test_an_expired_root_is_kept_and_nothing_follows(repository: Repository, client: Client) -> None:
    assert 0 == client.refresh()
    repository.root.expires = PAST
    repository.publish_root()
    repository.publish("targets")
    assert 1 == client.refresh()
    assert versions(root=2) == client.trusted()


def test_an_expired_root_on_the_way_to_a_fresh_one_is_no_harm(repository: Repository, client: Client) -> None:
    fresh, repository.root.expires = repository.root.expires, PAST
    repository.publish_root()
    repository.root.expires = fresh
    repository.publish_root()
    assert 0 == client.refresh()
    assert 3 == client.trusted()["root"]


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_what_has_expired_is_refused(repository: Repository, client: Client, role: str) -> None:
    assert 0 == client.refresh()
    repository.signed[role].expires = PAST
    repository.publish("targets")
    assert 1 == client.refresh()
    assert 1 == client.trusted()[role]


def test_what_has_expired_here_still_leads_to_what_is_fresh(repository: Repository, client: Client) -> None:
    fresh = repository.signed["timestamp"].expires
    assert 0 == client.refresh()
    repository.signed["timestamp"].expires = PAST
    (client.metadata / "timestamp.json").write_bytes(repository.sign("timestamp"))
    repository.signed["timestamp"].expires = fresh
    repository.publish("targets")
    assert 0 == client.refresh()
    assert 2 == client.trusted()["targets"]


# Hashes, lengths, mixing (clauses 5.5.2, 5.6.2)


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_other_bytes_of_the_listed_version_are_refused(repository: Repository, client: Client, role: str) -> None:
    repository.hashes = True
    repository.publish("targets")
    assert 0 == client.refresh()
    repository.publish("targets")
    repository.signed[role].unrecognized_fields["x-other"] = "signed as well"
    repository.write(role)
    assert 1 == client.refresh()
    assert 2 == client.trusted()[role]


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_more_bytes_than_listed_are_refused(repository: Repository, client: Client, role: str) -> None:
    repository.hashes = True
    repository.publish("targets")
    path = f"metadata/{repository.signed[role].version}.{role}.json"
    repository.files[path] += b" "
    assert 1 == client.refresh()
    assert role not in client.trusted()


def test_a_version_that_is_not_the_listed_one_is_refused(repository: Repository, client: Client) -> None:
    repository.signed["snapshot"].version = 2
    repository.files["metadata/1.snapshot.json"] = repository.sign("snapshot")
    assert 1 == client.refresh()
    assert {"root": 1, "timestamp": 1} == client.trusted()


def test_an_endless_timestamp_is_refused(repository: Repository, client: Client) -> None:
    repository.files["metadata/timestamp.json"] += b" " * (1 << 20)
    assert 1 == client.refresh()
    assert {"root": 1} == client.trusted()


# Delegations (clause 5.6.7): parent, role, terminating, paths; then the order in which they are asked

GRAPHS = {
    "one": (["targets A"], "A"),
    "two": (["targets A", "targets B"], "AB"),
    "below the second": (["targets A", "targets B", "B C"], "ABC"),
    "depth first": (["targets A", "targets B", "A C", "A D"], "ACDB"),
    "deeper": (["targets A", "targets B", "A C", "C D"], "ACDB"),
    "terminating": (["targets A", "targets B", "A C !", "A D"], "AC"),
    "terminating, with children": (["targets A", "targets B", "A C !", "C D"], "ACD"),
    "another path": (["targets A *.py", "targets B", "A C"], "B"),
    "another path below": (["targets A", "targets B", "A C *.py", "C D"], "AB"),
    "a circle": (["targets A", "targets B", "B C", "C D", "D B"], "ABCD"),
    "two ways to one": (["targets A", "targets B", "B C", "A C"], "ACB"),
    "two ways to one, one by path": (["targets A", "targets B", "B C", "A C *.py"], "ABC"),
}


def delegate(repository: Repository, delegations: list[str]) -> None:
    for line in delegations:
        parent, name, *rest = line.split()
        paths = [item for item in rest if item != "!"] or ["*"]
        repository.delegate(parent, DelegatedRole(name, [], 1, "!" in rest, paths))
    for role in list(repository.signed)[4:]:
        repository.list(role)
    repository.publish("targets")


@pytest.mark.parametrize(("delegations", "order"), GRAPHS.values(), ids=GRAPHS)
def test_delegations_are_walked_in_order(
    repository: Repository, client: Client, delegations: list[str], order: str
) -> None:
    delegate(repository, delegations)
    assert 1 == client.download("missing")
    assert [f"1.{role}.json" for role in order] == repository.metadata_asked()[4:]


@pytest.mark.parametrize(
    ("path", "found", "asked"),
    [
        ("top", True, ""),
        ("README.md", True, "A"),
        ("releases/x/v1", True, "BC"),
        ("releases/y/v1.zip", True, "BD"),
        ("releases/z/v1.zip", False, "B"),
    ],
)
def test_a_target_counts_only_from_a_role_that_may_speak_for_it(
    repository: Repository, client: Client, path: str, found: bool, asked: str
) -> None:
    for role, name in (
        ("A", "README.md"),
        ("C", "releases/x/v1"),
        ("D", "releases/y/v1.zip"),
        ("D", "releases/z/v1.zip"),
    ):
        if role not in repository.signed:
            parent = "targets" if role == "A" else "B"
            paths = {"A": ["*.doc", "*.md"], "C": ["releases/x/*"], "D": ["releases/y/*.zip"]}[role]
            if parent == "B" and "B" not in repository.signed:
                repository.delegate("targets", DelegatedRole("B", [], 1, False, ["releases/*/*"]))
            repository.delegate(parent, DelegatedRole(role, [], 1, False, paths))
        repository.add_artifact(role, name, name.encode())
    repository.add_artifact("targets", "top", b"top")
    delegate(repository, [])
    assert (0 if found else 1) == client.download(path)
    assert [path.encode()] * found == client.artifacts()
    assert [f"1.{role}.json" for role in asked] == repository.metadata_asked()[4:]


def test_a_delegated_role_is_held_to_its_own_keys(repository: Repository, client: Client) -> None:
    delegate(repository, ["targets A"])
    assert 1 == client.download("missing")
    assert 1 == client.trusted()["A"]
    repository.add_artifact("A", "a.txt", b"content")
    repository.signers["A"] = repository.signers["targets"]
    repository.publish("A")
    assert 1 == client.download("a.txt")
    assert (1, []) == (client.trusted()["A"], client.artifacts())


@pytest.mark.parametrize("name", ["?", "#", "/delegated", "../delegated", "."])
def test_a_role_of_an_odd_name_stays_in_its_place(repository: Repository, client: Client, name: str) -> None:
    repository.delegate("targets", DelegatedRole(name, [], 1, False, ["*"]))
    repository.list(name)
    repository.publish("targets")
    before = {path for path in client.metadata.parent.rglob("*") if path.parent != client.metadata}
    assert 1 == client.download("missing")
    assert {**versions(targets=2, snapshot=2, timestamp=2), name: 1} == client.trusted()
    after = {path for path in client.metadata.parent.rglob("*") if path.parent != client.metadata}
    assert {client.metadata / "root_history/1.root.json"} == after - before


# Artifacts (clause 5.7)


@pytest.mark.parametrize("path", ["artifact.txt", "a/b/artifact.txt"])
def test_an_artifact_is_downloaded_once(repository: Repository, client: Client, path: str) -> None:
    place = repository.add_artifact("targets", path, b"content")
    repository.publish("targets")
    assert 0 == client.refresh()
    assert [] == client.artifacts()
    assert 0 == client.download(path)
    assert [b"content"] == client.artifacts()
    assert 0 == client.download(path)
    assert [place] == [asked for asked in repository.asked if asked.startswith("targets/")]


def test_every_artifact_that_is_named_is_downloaded(repository: Repository, client: Client) -> None:
    """The suite repeats `--target-name`: none may be left out, and the first that is missing is a failure."""
    for name in ("a.txt", "b.txt", "c.txt"):
        repository.add_artifact("targets", name, name.encode())
    repository.publish("targets")
    assert 0 == client.download("a.txt", "b.txt")
    assert [b"a.txt", b"b.txt"] == client.artifacts()
    assert 1 == client.download("no-such-artifact", "c.txt")
    assert [b"a.txt", b"b.txt"] == client.artifacts()
    with pytest.raises(SystemExit):
        client.download()


@pytest.mark.parametrize("wrong", [b"Content", b"content!", b"", b"x" * 100_000])
def test_other_bytes_of_an_artifact_are_refused(repository: Repository, client: Client, wrong: bytes) -> None:
    place = repository.add_artifact("targets", "artifact.txt", b"content")
    repository.publish("targets")
    repository.files[place] = wrong
    assert 1 == client.download("artifact.txt")
    assert [] == client.artifacts()


def test_an_artifact_that_changes_honestly_is_replaced_and_a_false_one_is_not(
    repository: Repository, client: Client
) -> None:
    for step in range(3):
        place = repository.add_artifact("targets", "artifact.txt", b"content %d" % step)
        repository.publish("targets")
        assert 0 == client.download("artifact.txt")
        assert [b"content %d" % step] == client.artifacts()
        repository.files[place] = b"false"
        client.download("artifact.txt")
        assert [b"content %d" % step] == client.artifacts()

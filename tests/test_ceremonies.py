"""docs/operating.md, tried: each console block of it is run, in order, and must print what the page says it prints."""

from __future__ import annotations

import re
import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.test_cli_trust import Cli, cli, place
from tests.twin import deployment as deployments
from twinseal.registry.store import Store
from twinseal.trust.keys.key import generate_key_pair
from twinseal.trust.root.roles import Roles

__all__ = ["cli", "place"]

PAGE = (Path(__file__).parents[1] / "docs" / "operating.md").read_text()
BLOCKS = dict(re.findall(r"<!-- ceremony: (\w+) -->\n```console\n(.*?)```", PAGE, re.DOTALL))


def lines_of(name: str) -> list[tuple[str, list[str]]]:
    """Each command, or comment, of a block, with the lines that it must print."""
    found: list[tuple[str, list[str]]] = []
    for line in BLOCKS[name].splitlines():
        if line.startswith(("$ ", "# ")):
            found.append((line, []))
        else:
            found[-1][1].append(line)
    return found


class Operator:
    """Reads the page and does what it says."""

    def __init__(self, cli: Cli, place: Path) -> None:
        self.cli, self.place, self.people = cli, place, place / "people"

    def follow(self, name: str) -> None:
        for line, expected in lines_of(name):
            if line.startswith("# "):
                self.happen(line)
                continue
            words = shlex.split(line.removeprefix("$ twinseal "))
            code, said = self.cli(*words)
            assert code == any(text.startswith("refused") for text in expected), f"{line}\n{said}"
            for text in expected:
                assert text in said, f"{line}\nexpected: {text}\ngot: {said}"

    def happen(self, line: str) -> None:
        moved = re.search(r"the folder is at (?:the )?([a-z0-9-]+)'s now", line)
        if moved:
            self.only(moved[1])
        elif line == "# somebody changes the audit log":
            for tile in (path for path in (self.place / ".twinseal/log/tile/0").rglob("*") if path.is_file()):
                tile.write_bytes(bytes([tile.read_bytes()[0] ^ 1]) + tile.read_bytes()[1:])
        else:
            assert line == "# somebody takes chiara out of policy/roles.yaml"
            policy = self.place / "policy/roles.yaml"
            policy.write_text(policy.read_text().replace(", chiara", ""))

    def only(self, *holders: str) -> None:
        """The private keys of `holders`, and of nobody else, are where the folder is."""
        for path in (self.place / ".twinseal/keys").glob("*.pem"):
            path.unlink()
        for holder in holders:
            shutil.copy(self.people / f"{holder}.pem", self.place / ".twinseal/keys")


@pytest.fixture
def operator(
    cli: Cli, place: Path, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Operator:
    """A project whose holders have made their keys, and have sent the public halves."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    # The session shares the store: other homes of the tests have put artifacts below their own folders.
    monkeypatch.setenv("TWINSEAL_ARTIFACT_ROOT", str(tmp_path_factory.getbasetemp()))
    roles = Roles.load(place / "policy/roles.yaml")
    monkeypatch.setenv("TWINSEAL_PASSPHRASE", "correct horse")
    (place / ".twinseal/keys").mkdir(mode=0o700, parents=True)
    (place / ".twinseal").chmod(0o700)
    operator = Operator(cli, place)
    for holder in roles.holders:
        generate_key_pair(operator.people / f"{holder}.pem", passphrase=b"correct horse")
        shutil.copy(operator.people / f"{holder}.pub", place / ".twinseal/keys")
    operator.only("custodian-1")
    return operator


def test_the_page_has_the_ceremonies_that_are_tried_here() -> None:
    assert ["first", "renew", "yearly", "rotate", "revoke", "restore", "audit", "newlog"] == list(BLOCKS)


def test_first_keys_and_all_that_follows(operator: Operator) -> None:
    operator.follow("first")
    operator.only("custodian-1", "custodian-2", "registrar", "alice")
    for name in ("renew", "yearly", "rotate", "revoke", "audit", "newlog"):
        operator.follow(name)


def test_a_twin_is_restored_from_an_anchor_that_was_carried_by_hand(
    operator: Operator, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    monkeypatch.setattr(deployments, "NOW", now)
    monkeypatch.delenv("TWINSEAL_PASSPHRASE")
    made = deployments.Deployment(tmp_path_factory.mktemp("second"))
    made.publish(1, now=now)
    shutil.copytree(made.mirror, operator.place / "mirror")
    made.anchor.write(operator.place / "anchor-2")
    operator.follow("restore")

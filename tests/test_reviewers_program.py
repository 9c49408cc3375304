"""Whoever reviews a branch does so with a program that the branch cannot replace, and with the deployment they mean."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from twinseal.trust.ceremonies import ceremony
from twinseal.trust.keys.key import generate_key_pair
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

ROOT = Path(__file__).parents[1]
COMMANDS = ("review list", "review show", "approve --as alice --yes", "reject --as alice --comment no --yes")


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Home]:
    """A home with real keys, and one with a demo's."""
    roles, now = Roles.load(ROOT / "policy/roles.yaml"), datetime.now(UTC)
    made = {name: Home(tmp_path_factory.mktemp("homes") / name) for name in ("real", "demo")}
    ceremony.init_demo(made["demo"], roles, now)
    for holder in roles.holders:
        generate_key_pair(made["real"].keys / f"{holder}.pem", passphrase=None)
    assert ceremony.init(made["real"], roles, now).anchor is not None
    return made


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that has the program in it, as this repository has."""
    place = tmp_path / "checkout"
    shutil.copytree(ROOT / "src", place / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "policy", place / "policy")
    subprocess.run(["git", "init", "-q", str(place)], check=True)
    return place


def twinseal(command: str, home: Home | None, cwd: Path, **extra: str) -> tuple[int, str]:
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"} | extra
    if home is not None:
        environment["TWINSEAL_HOME"] = str(home.path)
    program = [str(Path(sys.executable).parent / "twinseal"), *command.split()]
    done = subprocess.run(program, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.attack("P")
@pytest.mark.parametrize("command", [*COMMANDS, "verify policy"])
def test_a_review_by_the_code_under_review(homes: dict[str, Home], checkout: Path, command: str) -> None:
    """A reviewer has Python run the code of the branch under review: refused with real keys, said with a demo's."""
    inside = {"PYTHONPATH": str(checkout / "src")}
    refusal = "expected an installed program, outside of"
    assert refusal not in twinseal(command, homes["real"], checkout)[1]
    code, said = twinseal(command, homes["real"], checkout, **inside)
    assert (1, True) == (code, refusal in said), said
    assert "~/twinseal/bin/pip install" in said
    said = twinseal(command, homes["demo"], checkout, **inside)[1]
    assert refusal not in said
    assert "this program is part of the checkout" in said
    (checkout / "src/twinseal").rename(checkout / "src/other")
    assert refusal in twinseal(command, homes["real"], checkout, **inside)[1], "another module could be replaced"


@pytest.mark.attack("P")
def test_a_branch_brings_the_anchor_that_it_is_judged_by(homes: dict[str, Home], checkout: Path) -> None:
    """A branch brings a bundle and the anchor that it satisfies: an anchor inside the checkout is refused."""
    (checkout / "bundle").mkdir()
    shutil.copytree(homes["demo"].anchor_dir, checkout / "anchor")
    refusal = "--anchor: expected a folder outside of"
    assert refusal not in twinseal(f"verify bundle --anchor {homes['demo'].anchor_dir}", homes["real"], checkout)[1]
    (checkout.parent / "link").symlink_to(checkout / "anchor")
    for anchor in ("anchor", "../link"):
        code, said = twinseal(f"verify bundle --anchor {anchor}", homes["real"], checkout)
        assert (1, True) == (code, refusal in said), said


def test_a_deployment_is_confirmed_once_and_again_when_its_name_changes(homes: dict[str, Home], checkout: Path) -> None:
    def run(command: str) -> tuple[int, str]:
        return twinseal(command, None, checkout, **own)

    own = {f"XDG_{kind}_HOME": str(checkout.parent / kind) for kind in ("DATA", "CONFIG", "CACHE")}
    shutil.copytree(homes["real"].path, checkout.parent / "DATA/twinseal/pumps")
    (checkout / "policy/deployment").write_text("pumps\n")
    for command in ("review list", "keys show", "trust show", "audit show", "trust sign --yes"):
        code, said = run(command)
        assert (1, True) == (code, "twinseal use pumps" in said), said
    assert "expected engines, got pumps" in run("use engines")[1]
    code, said = run("use pumps")
    assert (0, True) == (code, str(checkout.parent / "DATA/twinseal/pumps") in said), said
    assert 0 == run("trust show")[0]
    (checkout / "policy/deployment").write_text("demo\n")
    code, said = run("init --demo")
    assert (1, True) == (code, "what you confirmed here is pumps" in said), said
    assert ["pumps"] == [path.name for path in (checkout.parent / "DATA/twinseal").iterdir()]
    code, said = run("init")
    assert (2, True) == (code, "expected the name of your deployment, got demo" in said), said
    (checkout / "policy/deployment").write_text("engines\n")
    code, said = run("init --demo")
    assert (2, True) == (code, "expected the name demo, got engines" in said), said

"""The tutorial, command by command as it stands there, in a clone with keys of its own: from an export to a twin."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from demo.fixed_keys import write_fixed_key
from tests.mlflow_server import serving
from tests.test_story import copy_of_the_repository
from twinseal.trust.root.home import Home

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/tutorial-transformer.md"
BLOCKS = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ASKS = re.compile(r"twinseal (approve|policy approve|asset accept|gates accept|trust renew)\b")
REFUSED = "# refused"  # behind a command that ends with another code than 0
SERVER = "http://127.0.0.1:5000"
ASSESSOR = 1  # the key that decides the split
pytestmark = [pytest.mark.proof, pytest.mark.timeout(3600)]


def blocks() -> list[tuple[str, str]]:
    """Each block of commands, and what the page says that they print."""
    found: list[tuple[str, str]] = []
    for kind, text in BLOCKS.findall(PAGE.read_text()):
        if kind == "sh":
            found.append((text, ""))
        else:
            found[-1] = (found[-1][0], text)
    return found


def shape(text: str) -> str:
    """What a text says but for numbers, digests, and how it is laid out: these differ from machine to machine."""
    return " ".join(re.sub(r"\b[0-9a-f]{12}\b|[0-9][0-9.,]*", "N", text).split())


def test_the_page_is_read() -> None:
    said = blocks()
    assert len(said) >= 8
    assert any("twinseal run" in commands for commands, _ in said)
    assert "N of N" == shape("3 of\n 12,000.5")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return copy_of_the_repository(tmp_path / "twinseal")


@pytest.fixture
def environment(tmp_path: Path, place: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TWINSEAL_", "MLFLOW_", "PYTEST_", "COV_"))}
    home = Home(tmp_path / "home")
    write_fixed_key(home, "assessor", ASSESSOR)
    return kept | {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONPATH": str(place / "src"),
        "TWINSEAL_HOME": str(home.path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "160",
    }


def test_every_command_of_the_tutorial_does_what_it_says(place: Path, environment: dict[str, str]) -> None:
    address = SERVER
    with ExitStack() as stack:
        for commands, expected in blocks():
            said = ""
            for line in commands.replace("\\\n", " ").splitlines():
                if line.startswith("mlflow server"):
                    address = stack.enter_context(serving(Path(environment["TWINSEAL_HOME"])))
                if line.startswith(("mlflow server", "export")):
                    continue  # the same server, until the end; and what the environment has already
                began = time.monotonic()
                printed = run(line.replace(SERVER, address), place, environment)
                with (place.parent / "transcript.txt").open("a") as log:  # the figures of the page are taken from it
                    log.write(f"$ {line}   # {time.monotonic() - began:.0f} s\n{printed}\n")
                said += printed
            for quoted in filter(str.strip, expected.replace("…", "\n").splitlines()):
                assert shape(quoted) in shape(said), f"{commands}\nprinted\n{said}"


def run(line: str, place: Path, environment: dict[str, str]) -> str:
    """What one command prints; it must end as the page says."""
    yes = " --yes" if ASKS.search(line) else ""
    command = line.removesuffix(REFUSED)
    done = subprocess.run(
        ["bash", "-c", command + yes],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=3000,
    )
    assert (done.returncode != 0) == (REFUSED in line), f"{line} ended with {done.returncode}\n{done.stdout}"
    assert "Traceback" not in done.stdout
    return done.stdout

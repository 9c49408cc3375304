"""The systemd unit: systemd accepts it, how exposed it is, and that the twin needs no more than it allows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy/systemd/twinseal-twin.service"
ANALYZE = shutil.which("systemd-analyze")
PROGRAM = "/usr/local/lib/twinseal/bin/twinseal"
MOST_EXPOSED = 1.0  # of 10, as systemd-analyze counts; what is left is the network, which the twin is for

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="expected systemd-analyze: apt-get install systemd")


def analyze(*words: str | Path) -> tuple[int, str]:
    assert ANALYZE is not None
    done = subprocess.run(
        [ANALYZE, "--no-pager", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={"LC_ALL": "C.UTF-8"},
    )
    return done.returncode, done.stdout + done.stderr


def unit(folder: Path, without: str = "") -> Path:
    """The unit with a program that is here, and without a line."""
    text = UNIT.read_text()
    assert without in text
    path = folder / UNIT.name
    path.write_text(text.replace(PROGRAM, sys.executable).replace(without, ""))
    return path


def exposure(path: Path) -> float:
    code, text = analyze("security", "--offline=yes", path)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
    assert found is not None, text
    assert 0 == code
    return float(found[1])


@needs_systemd
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    assert (0, "") == analyze("verify", unit(tmp_path))
    code, text = analyze("verify", unit(tmp_path, "Type=notify"))
    assert (0, "") == (code, text)
    path = unit(tmp_path)
    path.write_text(path.read_text().replace("ProtectSystem=strict", "ProtectSystem=very"))
    assert "Failed to parse protect system value" in analyze("verify", path)[1]


@needs_systemd
def test_the_unit_is_exposed_no_more_than_it_must_be(tmp_path: Path) -> None:
    assert exposure(unit(tmp_path)) <= MOST_EXPOSED
    for line in ("CapabilityBoundingSet=\n", "ProtectSystem=strict\n", "SystemCallFilter=@system-service\n"):
        assert exposure(unit(tmp_path, line)) > MOST_EXPOSED, line


def test_the_unit_says_what_others_rely_on() -> None:
    lines = UNIT.read_text().splitlines()
    for line in (
        "Type=notify",
        "Restart=always",
        "NoNewPrivileges=yes",
        "MemoryDenyWriteExecute=yes",
        "StateDirectory=twinseal-twin",
        "LoadCredential=keys:/etc/twinseal/keys",
        f"ExecStart={PROGRAM} twin run --config /etc/twinseal/twin.yaml",
    ):
        assert line in lines
    user = (UNIT.parent / "twinseal-twin.sysusers").read_text()
    assert "u twinseal-twin " in user
    assert "User=twinseal-twin" in lines


@needs_systemd
@pytest.mark.proof
@pytest.mark.skipif(shutil.which("strace") is None, reason="expected strace: apt-get install strace")
def test_the_twin_makes_no_call_to_the_kernel_that_the_unit_forbids(tmp_path: Path) -> None:
    """But for mbind: it only says where memory would be best, and NumPy goes on without."""
    from tests.deploy.scene import run_scene

    run_scene(tmp_path, "strace", "-f", "-qq", "-o", str(tmp_path / "trace"))
    made = set(re.findall(r"^\d+ +([a-z0-9_]+)\(", (tmp_path / "trace").read_text(), re.MULTILINE))
    assert {"openat", "connect", "sendto", "mmap"} <= made
    forbidden = members("@privileged") | members("@resources")
    assert {"mbind"} >= made - (members("@system-service") - forbidden)
    (tmp_path / "again").mkdir()
    run_scene(tmp_path / "again", "strace", "-f", "-qq", "-e", "inject=mbind:error=EPERM", "-o", "/dev/null")


@pytest.mark.proof
def test_the_twin_works_where_no_memory_can_become_code(tmp_path: Path) -> None:
    """As MemoryDenyWriteExecute= has it, by the kernel's own switch (PR_SET_MDWE, Linux 6.3)."""
    from tests.deploy.scene import run_scene

    lock = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) and sys.exit(77); "
    lock += "os.execvp(sys.argv[1], sys.argv[1:])"
    probe = subprocess.run([sys.executable, "-c", lock, sys.executable, "-c", ""], check=False)
    if probe.returncode == 77:
        pytest.skip("expected Linux 6.3 or newer")
    run_scene(tmp_path, sys.executable, "-c", lock)


def members(name: str) -> set[str]:
    """The calls of one of systemd's sets, with those of the sets in it."""
    code, text = analyze("syscall-filter", name)
    assert 0 == code
    words = {line.strip() for line in text.splitlines()[1:]} - {""}
    inner = {word for word in words if word.startswith("@")}
    return {word for word in words - inner if not word.startswith("#")}.union(*map(members, inner))

"""The commit that is checked out, and whether what judges is what it says."""

from __future__ import annotations

import subprocess
from typing import Any

JUDGING = ("src", "pipelines", "policy", "dvc.yaml", "requirements")
WRITTEN = "policy/signers.json"  # by commands of ours


def source() -> dict[str, Any]:
    """`commit`, and as `changed` the files of code, policy and locks that differ from it; {} outside Git."""
    try:
        commit = _git("rev-parse", "HEAD").strip()
        lines = _git("status", "--porcelain", "--untracked-files=all", "--", *JUDGING).splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": commit, "changed": sorted(line[3:] for line in lines if not line.endswith(WRITTEN))}


def _git(*args: str) -> str:
    command = ["git", "-c", "core.fsmonitor=false", *args]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout  # noqa: S603

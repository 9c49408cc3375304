"""The commit that is checked out, whether what judges is what it says, and who made it."""

from __future__ import annotations

import os
import pwd
import subprocess
from typing import Any

from twinseal.evidence import MAX_NAME

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


def built_by() -> tuple[str, ...]:
    """The login that runs this, and the e-mail addresses of author and committer of the commit; sorted, each once.

    The login is the system's, not what the environment says. Outside Git it is all that is known.
    """
    try:
        people = _git("log", "-1", "--format=%ae%n%ce").splitlines()
    except (OSError, subprocess.SubprocessError):
        people = []
    names = (name.strip()[:MAX_NAME] for name in (_login(), *people))
    return tuple(sorted({name for name in names if name}))


def _login() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container whose user has no name
        return str(os.getuid())


def _git(*args: str) -> str:
    command = ["git", "-c", "core.fsmonitor=false", *args]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)  # noqa: S603
    return done.stdout.decode("utf-8", "replace")  # a name in a commit may be any bytes

"""A real PKCS #11 token for the tests: SoftHSM in a folder of its own, with its slots, its PIN, and its objects."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

PIN, SO_PIN = "4711-secret", "0815-officer"
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
MODULE = next((path for path in MODULES if Path(path).is_file()), "")
MISSING = not MODULE or shutil.which("softhsm2-util") is None
needs_softhsm = pytest.mark.skipif(MISSING, reason="needs SoftHSM: apt-get install softhsm2")


@dataclass(frozen=True)
class Hsm:
    """SoftHSM's tokens, in one folder."""

    folder: Path

    def add(self, label: str) -> None:
        """A new token with PIN and officer's PIN."""
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN],
            check=True,
            capture_output=True,
        )

    def uri(self, key: str | None = None, *, token: str = "desk", more: str = "") -> str:
        named = f";object={quote(key, safe='')}" if key is not None else ""
        return f"pkcs11:token={quote(token, safe='')}{named}?module-path={MODULE}{more}"

    @contextmanager
    def session(self, token: str = "desk", *, so_pin: str | None = None) -> Iterator[Any]:
        """A session of the library's own, beside ours."""
        import pkcs11

        module = pkcs11.lib(MODULE)
        try:
            login = {"so_pin": so_pin} if so_pin else {"user_pin": PIN}
            with module.get_token(token_label=token).open(rw=True, **login) as session:
                yield session
        finally:
            module.finalize()

    def pull_out(self) -> None:
        """The token is gone from its slot."""
        self.folder.rename(self.folder.with_name("pulled-out"))
        self.folder.mkdir()


def make_hsm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Hsm:
    """One token, "desk", that SoftHSM finds by its configuration."""
    tokens, configuration = folder / "tokens", folder / "softhsm2.conf"
    tokens.mkdir(parents=True)
    configuration.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(configuration))
    for name in list(os.environ):
        if name.endswith("_PASSPHRASE") or name in ("TWINSEAL_PASSPHRASE_FD", "TWINSEAL_PKCS11_MODULE"):
            monkeypatch.delenv(name)
    hsm = Hsm(tokens)
    hsm.add("desk")
    return hsm

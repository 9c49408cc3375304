"""Chromium, driven by Playwright, with an authenticator of its own that has a verified user."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.server.scene import PASSWORD

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"]


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser; the test is skipped where there is none."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Seat:
    """A person at a browser of their own, with a passkey device.

    Attributes:
        page: The page.
        devtools: Chromium's own protocol for it.
        device: Its authenticator's id.
        said: What the browser's console said.
    """

    page: Any
    devtools: Any
    device: str
    said: list[str]

    def credentials(self) -> list[dict[str, Any]]:
        """The device's passkeys, with their private keys."""
        found = self.devtools.send("WebAuthn.getCredentials", {"authenticatorId": self.device})
        return list(found["credentials"])

    def verify_user(self, verified: bool) -> None:
        """Whether the device's PIN or finger is right from now on."""
        asked = {"authenticatorId": self.device, "isUserVerified": verified}
        self.devtools.send("WebAuthn.setUserVerified", asked)


@contextmanager
def seat(browser: Any, who: str, *, password: str = PASSWORD, **context: Any) -> Iterator[Seat]:
    """A browser context in which `who` has signed in, and has a device."""
    made = browser.new_context(http_credentials={"username": who, "password": password}, **context)
    page, said = made.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    devtools = made.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    device = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]
    yield Seat(page, devtools, device, said)
    made.close()

"""The server where candidates are reviewed, over the demo's home: `make demo SERVE=1`, after the story.

The demo's candidate is submitted for review once more, as its next release, so that there is something to decide.
"""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.stage_hand import HOME, StoryError, act, free_port, say
from twinseal.server.people import Accounts, new_password
from twinseal.server.serving import accounts_uri
from twinseal.server.settings import ServerSettings
from twinseal.trust.root.home import Home

PEOPLE = {"alice": "reviewer", "bruno": "reviewer", "chiara": "reviewer", "emma": "engineer", "admin": "registrar"}
PATIENCE_S = 60


@dataclass(frozen=True)
class Running:
    """A server that runs.

    Attributes:
        url: Its address.
        passwords: By account.
        candidate: What waits for review.
    """

    url: str
    passwords: dict[str, str]
    candidate: str

    @property
    def page(self) -> str:
        """The review page."""
        return f"{self.url}/twinseal/review/{self.candidate}"


@contextmanager
def review_server(port: int) -> Iterator[Running]:
    """`twinseal serve` over the demo's home, with accounts and a candidate that waits; ended with the block.

    Raises:
        StoryError: It did not start, or the candidate could not be submitted.
    """
    (HOME / "mlflow").mkdir(parents=True, exist_ok=True)
    accounts, passwords = Accounts(accounts_uri(Home(HOME), ServerSettings())), {}
    for name, role in PEOPLE.items():
        passwords[name] = new_password()
        accounts.add(name, (role,), passwords[name])
    command = f"twinseal serve --port {port}"
    say(f"[cyan]$ {command}[/]")
    with subprocess.Popen(shlex.split(command), stdout=subprocess.DEVNULL) as process:
        try:
            url = f"http://localhost:{port}"
            _wait(process, f"{url}/twinseal/live")
            yield Running(url, passwords, _submit(url, passwords["emma"]))
        finally:
            process.terminate()


def main() -> int:
    """Serve until Ctrl-C."""
    act("The server where reviewers decide")
    try:
        with review_server(free_port(5000)) as running:
            say(f"MLflow                {running.url}")
            say(f"the review page       {running.page}")
            for name, role in PEOPLE.items():
                say(f"  {role:9}           {name}, password {running.passwords[name]}")
            say("in another terminal   . .venv/bin/activate")
            say("with a passkey        sign in as alice, 'Your passkey', then: twinseal reviewer enroll alice FILE")
            say("                      (new twins then refuse the current release until the next is approved)")
            say(f"from a terminal       export MLFLOW_TRACKING_USERNAME=bruno MLFLOW_TRACKING_PASSWORD=… ; "
                f"twinseal approve --from {running.url} --as bruno")  # fmt: skip
            say("Ctrl-C stops it")
            while True:
                time.sleep(1)
    except StoryError as failure:
        say(f"[bold red]the server did not start:[/] {failure}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 0


def _wait(process: subprocess.Popen[bytes], live: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(live, timeout=1):  # noqa: S310 - our own loopback server
                return
        except OSError:
            time.sleep(0.2)
    raise StoryError("twinseal serve does not answer; is another program on its port?")


def _submit(url: str, password: str) -> str:
    """Ask for the review of the candidate that the demo made last."""
    candidate = str(json.loads(Path("models/release/release.json").read_text())["mlflow_model_id"])
    secret = base64.b64encode(f"emma:{password}".encode()).decode()
    asked = urllib.request.Request(  # noqa: S310 - as above
        f"{url}/api/twinseal/v1/reviews",
        json.dumps({"candidate": candidate}).encode(),
        {"Authorization": f"Basic {secret}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=60):  # noqa: S310 - as above
            return candidate
    except OSError as error:
        raise StoryError(f"the candidate could not be submitted for review: {error}") from error


if __name__ == "__main__":
    sys.exit(main())

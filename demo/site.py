"""A site of the operator's: a twin, a gateway and its key, in a folder of the home; made anew each time.

Each step is a command of `twinseal`, as the operator, the commissioner and the gateway would type it.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable, Sequence

import pandas as pd

from demo.results import Said
from demo.stage_hand import HOME, run
from twinseal.console import NONE_ANSWERED, UNANSWERED

ANCHOR = "$TWINSEAL_HOME/anchor"
GATEWAY, COMMISSIONER = "gate-1", "emil"
REFUSED = 1
TOLD = (0, UNANSWERED, NONE_ANSWERED)
JOIN = " \\\n    | "


class Site:
    """A twin and a gateway.

    Args:
        name: Of the folder.
        model: Which model the twin runs.
    """

    def __init__(self, name: str, model: str) -> None:
        self.folder, self._shown, self.model = HOME / name, f"$TWINSEAL_HOME/{name}", model
        self.at = f"--model {model} --anchor {ANCHOR} --state {self._shown}/twin"

    def begin(self) -> None:
        """Begin with an empty folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700)

    def named(self, name: str) -> str:
        """How a command names a file of this folder."""
        return f"{self._shown}/{name}"

    def pull(self, url: str, *, expect: tuple[int, ...] = (0,), quiet: bool = False) -> str:
        """The twin fetches the release."""
        return run(f"twinseal pull --from {url} {self.at}", expect=expect, quiet=quiet)

    def make_key(self, name: str = GATEWAY) -> None:
        """The gateway makes its key; another name, another file."""
        run(f"twinseal device key {GATEWAY} --out {self._shown}/{name}.pem --no-passphrase", quiet=True)

    def enroll_gateway(self, units: Iterable[str], key: str = GATEWAY) -> None:
        """The commissioner signs which machines the gateway may deliver."""
        run(f"twinseal device enroll {GATEWAY} {self._shown}/{key}.pub {self._signed(units)}", quiet=True)

    def enroll_machines(self, units: Iterable[str]) -> None:
        """The commissioner signs which machines there are."""
        run(f"twinseal unit enroll {self._signed(units)}", quiet=True)

    def write(self, name: str, rows: pd.DataFrame) -> str:
        """Telemetry as JSON lines; how a command names the file."""
        rows.to_json(self.folder / name, orient="records", lines=True)
        return self.named(name)

    def gateway(self, rows: str, *, rows_a_frame: int = 20, key: str = GATEWAY) -> str:
        """The command by which the gateway, or whoever has its key, signs rows. No row waits for its pace here."""
        pace = f"--rows {rows_a_frame} --rate 10000"
        return f"twinseal gateway {rows} --device {GATEWAY} --model {self.model} --key {self._shown}/{key}.pem {pace}"

    def run(self, *pipeline: str) -> str:
        """What the twin says of the frames that come out of a pipeline: a table of the newest answers."""
        return run(self._twin(*pipeline), expect=TOLD)

    def hear(self, *pipeline: str) -> Said:
        """The same for a program, shown in a few lines."""
        said = Said.of(run(f"{self._twin(*pipeline)} --json", expect=(*TOLD, REFUSED), quiet=True))
        said.show()
        return said

    def _twin(self, *pipeline: str) -> str:
        return JOIN.join((*pipeline, f"twinseal run - --frames {self.at} --last"))

    def _signed(self, units: Iterable[str]) -> str:
        named = " ".join(f"--unit {shlex.quote(unit)}" for unit in units)
        return f"--model {self.model} --as {COMMISSIONER} {named} --yes --anchor {ANCHOR} --state {self._shown}/twin"


def meddling(**what: Sequence[int] | int) -> str:
    """The command of the man in the middle."""
    words = (
        f"--{name} {value if isinstance(value, int) else f'{value[0]}-{value[-1]}'}" for name, value in what.items()
    )
    return f"python -m demo.man_in_the_middle {' '.join(words)}"

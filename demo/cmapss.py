"""The subsets of C-MAPSS: the asset of each, and what its recipes change. Why: docs/data.md.

Engines are not pumps: fewer components, and a baseline that tells more. Where two kinds of wear must be told apart,
training takes longer. The changes were chosen by cross-validation over training engines; FD004 has those of FD003,
untried: its files were not at hand.
"""

from __future__ import annotations

import re
import shlex
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ONE_KIND_OF_WEAR = (
    "train.accurate.components=2",
    "train.robust.plain.epochs=20",
    "train.robust.plain.kappa=0.5",
    "train.robust.commissioned.epochs=20",
    "train.robust.commissioned.baseline_noise=0.5",
)
_TWO_KINDS_OF_WEAR = (
    "train.accurate.components=3",
    "train.robust.plain.epochs=40",
    "train.robust.plain.kappa=0.4",
    "train.robust.commissioned.epochs=40",
    "train.robust.commissioned.baseline_noise=0.5",
)


@dataclass(frozen=True)
class Subset:
    """One of NASA's four.

    Attributes:
        name: As NASA has it.
        asset: Its contract in policy/contract.yaml.
        changes: Of params.yaml, as `dvc exp run -S` takes them; each subset names the same keys, so that none keeps
            what another one changed.
    """

    name: str
    asset: str
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Engines:
    """The engines of a subset, in files.

    Attributes:
        subset: Which.
        path: A folder with NASA's files, or NASA's zip.
    """

    subset: Subset
    path: Path

    @property
    def are_there(self) -> bool:
        """Whether the path is a folder with the first of the files, or a zip."""
        name = f"train_{self.subset.name}.txt"
        return zipfile.is_zipfile(self.path) if self.path.is_file() else (self.path / name).is_file()

    def command(self, target: str = "") -> str:
        """What runs the pipeline on them, all of it or up to a stage; params.yaml is changed by it."""
        path = hydra_text(str(self.path.absolute()))
        data = (f"data.asset={self.subset.asset}", f"data.cmapss.subset={self.subset.name}", f"data.path={path}")
        changes = shlex.join(
            word for change in ("data.source=cmapss", *data, *self.subset.changes) for word in ("-S", change)
        )
        return f"dvc exp run {changes} {target}".rstrip()

    def proposal(self) -> str:
        """What proposes policy for them, marked as proposed."""
        told = shlex.join(["--from", str(self.path.absolute()), "--subset", self.subset.name])
        return f"twinseal asset new {self.subset.asset} {told} --source cmapss --like turbofan"


SUBSETS: Mapping[str, Subset] = {
    subset.name: subset
    for subset in (
        Subset("FD001", "turbofan", _ONE_KIND_OF_WEAR),
        Subset("FD002", "turbofan_fd002", _ONE_KIND_OF_WEAR),
        Subset("FD003", "turbofan_fd003", _TWO_KINDS_OF_WEAR),
        Subset("FD004", "turbofan_fd004", _TWO_KINDS_OF_WEAR),
    )
}


def hydra_text(text: str) -> str:
    """A text as DVC's -S takes it, whatever is in it: a quoted value in Hydra's grammar of overrides.

    >>> hydra_text("a (1) = b.zip")
    '"a (1) = b.zip"'
    """
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', re.sub(r"(\\+)$", r"\1\1", text))
    return f'"{escaped}"'

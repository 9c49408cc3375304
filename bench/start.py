"""Where the time of a small honest pull goes: a model like the demo's, from a registry that answers at once."""

from __future__ import annotations

from pathlib import Path

from bench.scene import pulled, writer
from bench.table import Row
from tests.simulator import Registry
from tests.twin.deployment import MODEL, Deployment

UNITS = 128  # a model of about 100 KB


def measure(folder: Path, repeats: int) -> list[Row]:
    """The rows of `start`; `repeats` of each."""
    deployment = Deployment(folder)
    deployment.release(deployment.bundle(1, write=writer(UNITS)), 1)
    with Registry(deployment.mirror) as registry:
        first = pulled(deployment, registry.url, MODEL, folder / "twin")
        samples = [pulled(deployment, registry.url, MODEL, folder / "twin") for _ in range(repeats)]

    def row(what: str, key: str, part: str = "") -> Row:
        found = tuple(sample[key][part] if part else sample[key] for sample in samples)
        return Row("start", what, found, "s")

    return [
        Row("start", "the first pull ever: Python compiles all that it imports", (first["whole_s"],), "s"),
        row("a pull, process and all", "whole_s"),
        *(row(f"of it: import {name}", "imports_s", name) for name in samples[0]["imports_s"]),
        row("of it: pull", "pull_s"),
        *(row(f"of the pull: {name}", "steps_s", name) for name in samples[0]["steps_s"]),
        row("start from what is installed", "again_s"),
    ]

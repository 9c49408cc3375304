"""Scenario 1, predictive manipulation: failing machines are made to look healthy, by every way that there is.

`make scenario-1`: trains the model if that was not done yet, plays each attack twice, once against a twin without any
check and once against ours, and ends with a table. Exit code 0 only if each attack was stopped.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from demo import acts
from demo.plant import TELEMETRY, WINDOWS, Machine, Plant, believed, is_healthy, without_checks, younger, youth
from demo.results import Finding, cycles_left, exit_code, judged, show
from demo.site import Site, meddling
from demo.stage_hand import Server, StoryError, act, run, say
from twinseal.prognostics.checkpoint import Model, read_model, write_model
from twinseal.prognostics.gradient_boosting import boosting_estimates
from twinseal.prognostics.inference import Inference
from twinseal.prognostics.metrics import FAILING_CYCLES, HEALTHY_CYCLES
from twinseal.prognostics.weights import WEIGHTS
from twinseal.prognostics.windows import Prepared

ADDED_CYCLES = 80  # to what is left
WITHHELD = 90  # rows, which come one a frame
YOUTH = 60  # of its first rows, those that are played again
STRANGER = "spare-1"  # a place that the gateway serves, and no machine is enrolled for


def main() -> int:
    """Play scenario 1."""
    try:
        findings = _play()
    except StoryError as failure:
        say(f"[bold red]the scenario stopped:[/] {failure}")
        return 1
    except KeyboardInterrupt:
        say("[yellow]interrupted[/]: run the same command again; what was finished is kept")
        return 130
    act("Scenario 1: what the attacker wanted to be believed")
    show(findings)
    return exit_code(findings)


def _play() -> list[Finding]:
    acts.first_keys()
    acts.build(None)
    plant = Plant()
    with Server() as server:
        acts.approve_and_register()
        findings = [_poisoned_labels()]
        url = server.address()
        site = Site("scenario-1", plant.model.contract.model)
        site.begin()
        findings.append(_altered_model(site, url, plant))
        site.pull(url)
    machines = plant.failing(4)
    _enroll(site, machines)
    attacks: list[Callable[[Site, Model, Machine], Finding]] = [_held_sensors, _withheld_rows, _old_rows, _renamed]
    return findings + [attack(site, plant.model, machine) for attack, machine in zip(attacks, machines, strict=True)]


def _poisoned_labels() -> Finding:
    """The data editor adds cycles to the remaining life of every training history, and restores the file's time."""
    act(f"ATTACK: training data: every history is told to last {ADDED_CYCLES} cycles longer")
    prepared = Prepared.read(WINDOWS)
    false = np.minimum(prepared.train.rul + np.float32(ADDED_CYCLES), np.float32(prepared.rul_cap_cycles))
    poisoned = replace(prepared, train=replace(prepared.train, rul=false))
    failing = prepared.test.rul <= FAILING_CYCLES
    healthy = int((boosting_estimates(poisoned, seed=1, rounds=50)[failing] > HEALTHY_CYCLES).sum())
    words = f"{healthy} of {int(failing.sum())} failing test machines are healthy"
    say(f"a model that learns from it (gradient boosting): {words}")
    telemetry = pd.read_parquet(TELEMETRY)
    telemetry.loc[~telemetry.censored, "rul"] += ADDED_CYCLES
    with _replaced(TELEMETRY, telemetry.to_parquet(index=False)):
        said = run("python -m pipelines.validate", expect=(0, 1))
    stopped = f"{TELEMETRY}: expected sha256" in said
    fooled = healthy == int(failing.sum()) > 0
    return Finding("training data poisoned", words, fooled, stopped, "digests signed at ingest")


@contextmanager
def _replaced(path: Path, false: bytes) -> Iterator[None]:
    """While it lasts, the file has other content; its time is as before."""
    honest, times = path.read_bytes(), path.stat()
    path.unlink()  # a link into DVC's cache would change the cache too
    try:
        path.write_bytes(false)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        yield
    finally:
        path.write_bytes(honest)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _altered_model(site: Site, url: str, plant: Plant) -> Finding:
    """The owner of MLflow's store adds to the last bias of each network."""
    act(f"ATTACK: the model in the registry: each network adds {ADDED_CYCLES} cycles")
    machine = plant.failing(1)[0]
    weights = acts.registered_weights()
    honest = weights.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        false = optimistic(plant.model, ADDED_CYCLES)
        write_model(Path(folder), false)
        cycles = believed(read_model(Path(folder)), machine.rows)
        say(f"a twin that loads it says of {machine.name}, which has {machine.left} cycles left: {cycles:.0f}")
        altered = (Path(folder) / WEIGHTS).read_bytes()
    try:
        weights.write_bytes(altered)
        said = site.pull(url, expect=(0, 1))
    finally:
        weights.write_bytes(honest)
    stopped = "refused (DigestMismatch)" in said
    words = cycles_left(f"{cycles:.0f}", str(machine.left))
    return Finding("model file altered", words, is_healthy(cycles), stopped, "signatures of model and release")


def optimistic(model: Model, cycles: float) -> Model:
    """The model with so many cycles added to what each network says."""
    share = np.float32(cycles / model.rul_cap_cycles)
    arrays = {
        name: array + share if array.shape == (1,) and name.endswith(".bias") else array
        for name, array in model.inference.arrays.items()
    }
    return replace(model, inference=Inference(model.inference.config, arrays))


def _enroll(site: Site, machines: list[Machine]) -> None:
    act("The commissioner enrolls the gateway and the machines")
    names = [machine.name for machine in machines]
    site.make_key()
    site.enroll_gateway([*names, STRANGER])
    site.enroll_machines(names)


def _held_sensors(site: Site, model: Model, machine: Machine) -> Finding:
    act(f"ATTACK: the sensors of {machine.name}: they show its first {YOUTH} cycles again, in place of the last")
    rows = younger(machine, YOUTH)
    said = site.hear(site.gateway(site.write("held.jsonl", rows)))
    cycles = without_checks(model, machine, rows)
    return judged("sensors manipulated", [machine], [cycles], said, "the guard", "inspect now")


def _withheld_rows(site: Site, model: Model, machine: Machine) -> Finding:
    act(f"ATTACK: the network: the last {WITHHELD} rows of {machine.name} are withheld, but the newest")
    gone = range(machine.age - WITHHELD, machine.age)
    dropped = meddling(drop=gone)
    said = site.hear(site.gateway(site.write("withheld.jsonl", machine.rows), rows_a_frame=1), dropped)
    cycles = without_checks(model, machine, machine.rows[~machine.rows.cycle.isin(gone)])
    return judged(
        "rows withheld", [machine], [cycles], said, "numbered frames, guard, ledger", "did not come", "inspect now"
    )


def _old_rows(site: Site, model: Model, machine: Machine) -> Finding:
    """What the twin has taken once comes again: byte by byte, and then from a gateway that lost its memory."""
    act(f"ATTACK: the network: recorded frames of {machine.name}, when it was young, are played again")
    young = site.write("young.jsonl", youth(machine, YOUTH))
    frames = site.named("young.frames")
    site.hear(site.gateway(young), f"tee {frames}")
    site.hear(site.gateway(site.write("old.jsonl", machine.rows[machine.rows.cycle > len(youth(machine, YOUTH))])))
    said = site.hear(f"cat {frames}")
    cycles = without_checks(model, machine, youth(machine, YOUTH))
    return judged("old rows played again", [machine], [cycles], said, "numbered frames", "played again")


def _renamed(site: Site, model: Model, machine: Machine) -> Finding:
    act(f"ATTACK: a name: {machine.name} sends its first {YOUTH} rows again, as the new machine {STRANGER}")
    rows = youth(machine, YOUTH).assign(unit=STRANGER)
    said = site.hear(site.gateway(site.write("renamed.jsonl", rows)))
    cycles = without_checks(model, machine, rows)
    return judged("machine renamed", [machine], [cycles], said, "enrolled machines", "unknown machine")


if __name__ == "__main__":
    sys.exit(main())

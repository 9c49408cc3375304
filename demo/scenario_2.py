"""Scenario 2, a grid's transformers: somebody hides that several of them fail soon, all at once.

`make scenario-2`: makes a model for transformers as the tutorial does, in a copy of the checkout, and plays the attacks
as scenario 1 does. Exit code 0 only if each was stopped.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Mapping

import pandas as pd

from demo.plant import Machine, Plant, believed, interleaved, without_checks, younger, youth
from demo.results import Finding, Said, exit_code, judged, show
from demo.site import COMMISSIONER, GATEWAY, Site
from demo.stage_hand import HOME, Server, StoryError, act, run, say
from demo.transformers import MODEL, in_a_copy, make_model
from twinseal.prognostics.checkpoint import Model
from twinseal.twin.enrolled_lives import LIVES

TRANSFORMERS, CHOSEN_FROM = 4, 12
YOUTH = 60  # of their first rows, those that are told in place of the newest
START = 30  # those with which a life is said to begin anew
NEW_KEY = f"{GATEWAY}-new"
IN_THE_COPY = "--here"


def main() -> int:
    """Play scenario 2; first in this checkout, which starts it again in a copy."""
    try:
        if IN_THE_COPY not in sys.argv[1:]:
            return in_a_copy("demo.scenario_2", IN_THE_COPY, HOME.with_name(f"{HOME.name}-scenario-2"))
        findings = _play()
    except StoryError as failure:
        say(f"[bold red]the scenario stopped:[/] {failure}")
        return 1
    except KeyboardInterrupt:
        say("[yellow]interrupted[/]: run the same command again")
        return 130
    act("Scenario 2: what the attacker wanted to be believed of the grid")
    show(findings)
    return exit_code(findings)


def _play() -> list[Finding]:
    make_model()
    site, plant = Site("scenario-2", MODEL), Plant()
    with Server() as server:
        site.begin()
        site.pull(server.address())
    machines = _best_hidden(plant)
    names = [machine.name for machine in machines]
    most = max(machine.left for machine in machines)
    act(f"The commissioner enrolls the gateway and {', '.join(names)}: all fail within {most} cycles of two weeks")
    site.make_key()
    site.enroll_gateway(names)
    site.enroll_machines(names)
    attacks = [_stolen_key, _revoked_key, _false_overhaul, _edited_record, _counts_anew]
    return [attack(site, plant.model, machines) for attack in attacks]


def _best_hidden(plant: Plant) -> list[Machine]:
    """Who attacks has a copy of the model, and chooses by it: models are signed, not secret."""
    machines = plant.failing(CHOSEN_FROM)
    return sorted(machines, key=lambda machine: -believed(plant.model, younger(machine, YOUTH)))[:TRANSFORMERS]


def _stolen_key(site: Site, model: Model, machines: list[Machine]) -> Finding:
    """The thief has the gateway's key and what it has signed last, so every number and signature is right."""
    act("ATTACK: the gateway's key is stolen: its thief signs readings of young transformers, for all at once")
    false = [younger(machine, YOUTH) for machine in machines]
    turns = [machine.age - len(youth(machine, YOUTH)) for machine in machines]
    before = [rows[rows.cycle <= turn] for rows, turn in zip(false, turns, strict=True)]
    after = [rows[rows.cycle > turn] for rows, turn in zip(false, turns, strict=True)]
    honest = site.gateway(site.write("honest.jsonl", interleaved(before)))
    thief = site.gateway(site.write("stolen.jsonl", interleaved(after)))
    said = site.hear(f"{{ {honest}; \\\n    {thief}; }}")
    cycles = _without_checks(model, machines, false)
    return judged("gateway's key stolen", machines, cycles, said, "the guard", "inspect now")


def _revoked_key(site: Site, model: Model, machines: list[Machine]) -> Finding:
    act("The theft is noticed: the key is revoked, and the gateway gets a new one. The thief goes on")
    run(f"twinseal device revoke {GATEWAY} --as {COMMISSIONER} --yes {site.at}", quiet=True)
    site.make_key(NEW_KEY)
    site.enroll_gateway([machine.name for machine in machines], key=NEW_KEY)
    later = [_shifted(youth(machine, START), machine.age) for machine in machines]
    said = site.hear(site.gateway(site.write("later.jsonl", interleaved(later))))
    cycles = _without_checks(model, machines, later)
    return judged("stolen key used again", machines, cycles, said, "its revocation", "revoked device")


def _false_overhaul(site: Site, model: Model, machines: list[Machine]) -> Finding:
    """Who has no commissioner's key says that they were overhauled."""
    act("ATTACK: the transformers are said to be overhauled, by somebody who is no commissioner")
    run(f"twinseal keys new emil --out {site.named('mallory.pem')} --no-passphrase", quiet=True)
    key = f"--key file:{site.named('mallory.pem')}"
    said = ""
    for machine in machines:
        named = f"{machine.name} --as {COMMISSIONER} --cycle {machine.age} --yes"
        said += run(f"twinseal unit overhaul {named} {key} {site.at}", expect=(1,))
    cycles = _without_checks(model, machines, [youth(machine, START) for machine in machines])
    by = "acts that a commissioner must sign"
    return judged("false overhaul", machines, cycles, Said.of(said), by, "refused (KeyAccess)")


def _edited_record(site: Site, model: Model, machines: list[Machine]) -> Finding:
    """Who can write where the twin is adds acts to its record; at the gateway, the counts begin at 1 again."""
    act("ATTACK: so the overhauls are written into the twin's own record, and counts begin anew at the gateway")
    path = site.folder / "twin" / LIVES.file
    honest = path.read_bytes()
    path.write_bytes(with_overhauls(honest, {machine.name: machine.age for machine in machines}))
    say(f"an overhaul and a new counter for each are in {site.named(f'twin/{LIVES.file}')}")
    young = [youth(machine, START) for machine in machines]
    signed = site.gateway(site.write("anew.jsonl", interleaved(young)), key=NEW_KEY)
    said = site.hear(signed, f"tee {site.named('anew.frames')}")
    path.write_bytes(honest)
    cycles = _without_checks(model, machines, young)
    because = "the life record does not count"
    return judged("record of acts edited", machines, cycles, said, "the record's signature", because)


def _counts_anew(site: Site, model: Model, machines: list[Machine]) -> Finding:
    act("The record is put back. The same frames, rightly signed, with counts that begin anew")
    said = site.hear(f"cat {site.named('anew.frames')}")
    cycles = _without_checks(model, machines, [youth(machine, START) for machine in machines])
    return judged("counts begin anew", machines, cycles, said, "counts that never fall", "a count that fell")


def with_overhauls(record: bytes, ages: Mapping[str, int]) -> bytes:
    """The record with an overhaul of each machine at its age and a counter that begins anew, signed as it was."""
    envelope = json.loads(record)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    for name, age in ages.items():
        statement["predicate"]["lives"][name]["acts"] += [["overhaul", age, 0], ["counter replaced", 0, 0]]
    envelope["payload"] = base64.b64encode(json.dumps(statement, sort_keys=True).encode()).decode()
    return json.dumps(envelope).encode()


def _shifted(rows: pd.DataFrame, cycles: int) -> pd.DataFrame:
    return rows.assign(cycle=rows.cycle + cycles)


def _without_checks(model: Model, machines: list[Machine], rows: Iterable[pd.DataFrame]) -> list[float]:
    return [without_checks(model, machine, each) for machine, each in zip(machines, rows, strict=True)]


if __name__ == "__main__":
    sys.exit(main())

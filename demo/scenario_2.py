"""Scenario 2, a grid's transformers: somebody hides that several of them fail soon, all at once.

`make scenario-2`: makes a model for transformers as the tutorial does, in a copy of the checkout, and plays the attacks
as scenario 1 does. Exit code 0 only if each was stopped.
"""

from __future__ import annotations

import sys

from demo.plant import Machine, Plant, interleaved, without_checks, younger
from demo.results import Finding, Said, exit_code, judged, show
from demo.site import COMMISSIONER, GATEWAY, Site
from demo.stage_hand import HOME, Server, StoryError, act, run, say
from demo.transformers import MODEL, in_a_copy, make_model
from twinseal.prognostics.checkpoint import Model

TRANSFORMERS = 4
YOUTH = 60  # of their first rows, those that are told again
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
        say("[yellow]interrupted[/]: run the same command again; what was finished is kept")
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
    machines = plant.failing(TRANSFORMERS)
    names = [machine.name for machine in machines]
    act(f"The commissioner enrolls the gateway and {', '.join(names)}, which fail within {machines[-1].left} cycles")
    site.make_key()
    site.enroll_gateway(names)
    site.enroll_machines(names)
    stolen = _stolen_key(site, plant.model, machines)
    revoked = _revoked_key(site, plant.model, machines)
    return [stolen, revoked, *_false_overhaul(site, plant.model, machines)]


def _stolen_key(site: Site, model: Model, machines: list[Machine]) -> Finding:
    """The thief has the gateway's key and what it has signed last, so every number and signature is right."""
    act("ATTACK: the gateway's key is stolen: its thief signs readings of young transformers, for all at once")
    false = [younger(machine, YOUTH) for machine in machines]
    parts = zip(false, machines, strict=True)
    begun, turned = zip(
        *((rows[rows.cycle <= m.age - _count(m)], rows[rows.cycle > m.age - _count(m)]) for rows, m in parts),
        strict=True,
    )
    honest = site.gateway(site.write("honest.jsonl", interleaved(begun)))
    thief = site.gateway(site.write("stolen.jsonl", interleaved(turned)))
    said = site.hear(f"{{ {honest}; {thief}; }}")
    cycles = [without_checks(model, machine, rows) for machine, rows in zip(machines, false, strict=True)]
    return judged("gateway's key stolen", machines, cycles, said, "the guard, the ledger", "inspect now")


def _count(machine: Machine) -> int:
    return min(YOUTH, machine.age // 2)


def _revoked_key(site: Site, model: Model, machines: list[Machine]) -> Finding:
    act("The theft is noticed: the key is revoked, and the gateway gets a new one. The thief goes on")
    run(f"twinseal device revoke {GATEWAY} --as {COMMISSIONER} --yes {site.at}", quiet=True)
    site.make_key("gate-1-new")
    site.enroll_gateway([machine.name for machine in machines], key="gate-1-new")
    later = [
        machine.rows.iloc[:YOUTH].assign(cycle=range(machine.age + 1, machine.age + YOUTH + 1)) for machine in machines
    ]
    said = site.hear(site.gateway(site.write("later.jsonl", interleaved(later))))
    cycles = [without_checks(model, machine, rows) for machine, rows in zip(machines, later, strict=True)]
    return judged("stolen key after that", machines, cycles, said, "revocation", "revoked device")


def _false_overhaul(site: Site, model: Model, machines: list[Machine]) -> list[Finding]:
    """Who has no commissioner's key says that they were overhauled, and lets their counts begin anew."""
    act("ATTACK: the transformers are said to be overhauled, by somebody who is no commissioner")
    run(f"twinseal keys new emil --out {site.named('mallory.pem')} --no-passphrase", quiet=True)
    notes = []
    for machine in machines:
        act_of = f"twinseal unit overhaul {machine.name} --as {COMMISSIONER} --cycle {machine.age} --yes"
        notes.append(run(f"{act_of} --key file:{site.named('mallory.pem')} {site.at}", expect=(0, 1)))
    young = [machine.rows.iloc[:YOUTH] for machine in machines]
    cycles = [without_checks(model, machine, rows) for machine, rows in zip(machines, young, strict=True)]
    refused = Said({}, {}, tuple(note for note in notes if "signed" not in note))
    forged = judged(
        "false overhaul", machines, cycles, refused, "acts signed by commissioners", *["refused"] * len(notes)
    )
    act("ATTACK: so their counts begin anew at the gateway, without any act")
    said = site.hear(site.gateway(site.write("anew.jsonl", interleaved(young)), key="gate-1-new"))
    fell = judged("counts begin anew", machines, cycles, said, "counts that never fall", "a count that fell")
    return [forged, fell]


if __name__ == "__main__":
    sys.exit(main())

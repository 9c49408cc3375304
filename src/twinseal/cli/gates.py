"""The gates of an asset that has no bounds yet: proposed from a first run, and accepted by name."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinseal.cli.acceptance import POLICY, Asset, Person, accept_offered
from twinseal.cli.options import Yes, examples
from twinseal.console import new_table, out, printable
from twinseal.errors import ConfigError, EvidenceError
from twinseal.files import inventory, write_whole
from twinseal.reading import read_regular
from twinseal.trust.root.home import Home

if TYPE_CHECKING:
    from twinseal.assurance.proposed_bounds import ProposedBound, Seen
    from twinseal.evidence import Statement
    from twinseal.prognostics.families import Family

EVIDENCE, CANDIDATE, PARAMS = Path("reports/evidence"), Path("models/candidate"), Path("params.yaml")
MAX_BYTES = 1 << 20
_AGAIN = "The files have changed since the run. Run it again: dvc repro"

gates = typer.Typer(
    help="The bounds of an asset: proposed from a first run, accepted by name.",
    epilog=examples("twinseal gates propose transformer", "twinseal gates accept transformer --all --as gerda"),
    no_args_is_help=True,
)


@gates.command(
    "propose", epilog=examples("twinseal gates propose transformer", "twinseal gates propose transformer --again")
)
def gates_propose(
    name: Asset,
    again: Annotated[
        bool, typer.Option("--again", help="Widen what was proposed, where this run asks for it.")
    ] = False,
) -> None:
    """Propose a bound for each gate that has none for an asset, from the signed evidence of the run that lies here."""
    from twinseal.assurance.proposed_bounds import propose
    from twinseal.assurance.written_bounds import with_proposals
    from twinseal.policy import read_gates

    path, asked = POLICY / "gates.yaml", read_gates(POLICY)
    before = read_regular(path, MAX_BYTES)
    seen, family = _first_run(name)
    found = propose(asked.asked_of(family), name, seen, again=again)
    if not found:
        out.print(
            f"every gate of a model of the family {family} has a bound for '{printable(name)}': nothing to propose"
        )
        return
    _print(found)
    written = [item for item in found if item.bound]
    if written:
        write_whole(path, with_proposals(before, name, written))
    out.print(f"{len(written)} bounds proposed in {path}, for the family {family}; they count once they are accepted:")
    out.print(f"  [cyan]twinseal gates accept {printable(name)} GATE --as NAME[/], or [cyan]--all[/]")


@gates.command(
    "accept",
    epilog=examples(
        "twinseal gates accept transformer accuracy --as gerda", "twinseal gates accept transformer --all --as gerda"
    ),
)
def gates_accept(
    name: Asset,
    person: Person,
    chosen: Annotated[list[str] | None, typer.Argument(metavar="GATE", help="The gates whose bounds.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every bound that is proposed for the asset.")] = False,
    yes: Yes = False,
) -> None:
    """Accept bounds that were proposed for an asset. Until then its verdict is FAILED."""
    from twinseal.policy_acceptance import offered_bounds

    if bool(chosen) == every:
        raise ConfigError(
            "gates: expected the names of gates, or --all, got " + ("both" if every else "neither"),
            remedy=f"twinseal gates accept {name} GATE --as NAME; which are proposed: twinseal policy show",
        )
    accept_offered(offered_bounds(POLICY, name, chosen or (), every=every), person, yes)


def _print(found: tuple[ProposedBound, ...]) -> None:
    table = new_table("gate", "seen", "proposed bound", "margin", "why", numbers=("seen",))
    for item in found:
        seen = "–" if item.seen is None else f"{item.seen:.4g} {item.unit}"
        bound = f"{item.bound.relation.replace('_', ' ')} {item.bound.number:g}" if item.bound else "[yellow]none[/]"
        table.add_row(item.gate, seen, bound, item.margin, printable(item.why))
    out.print(table)


def _first_run(asset: str) -> tuple[Seen, Family]:
    """What the signed evidence here shows of a model of `asset`, verified as for a verdict, and its family.

    Raises:
        SignatureError, ThresholdError: A record is absent, or not signed by the role that should have.
        EvidenceError: The records are not about the model that lies here, or not by the policy and params of now.
        ConfigError: The model is for another asset.
    """
    from twinseal.assurance.proposed_bounds import Seen
    from twinseal.evidence import Subject, measures
    from twinseal.evidence_chain import REQUIRED, broken_links
    from twinseal.policy import contract_fault
    from twinseal.policy_files import Policy
    from twinseal.prognostics.checkpoint import read_model
    from twinseal.trust.signing.attestation import read_attestation

    anchor = Home.find().anchor()
    records = {stage: read_attestation(EVIDENCE / f"{stage}.dsse.json", stage, anchor) for stage in REQUIRED}
    model, files = read_model(CANDIDATE), inventory(CANDIDATE)
    if model.contract.asset != asset:
        raise ConfigError(
            f"{CANDIDATE}: expected a model for '{asset}', got one for '{model.contract.asset}'",
            remedy=f"Run the stages for it first: dvc exp run -S data.asset={asset}, or set data.asset and dvc repro",
        )
    subjects = tuple(Subject(f"model/{record.path}", record.sha256) for record in files)
    links = broken_links(records, subjects, Policy.read(POLICY).part_subjects, None, asset)
    faults = [f"{stage}: {reason}" for stage, reason in links.items() if reason]
    faults += list(filter(None, (contract_fault(model.contract, POLICY / "contract.yaml"), _other_params(records))))
    if faults:
        raise EvidenceError(f"{EVIDENCE}: expected evidence about this model and policy; {faults[0]}", remedy=_AGAIN)
    weights = next(item.sha256 for item in subjects if item.name.endswith(".safetensors"))
    run = f"the run of {date.today().isoformat()} (weights {weights[:12]})"
    shown = {stage: measures(record) for stage, record in records.items()}
    return Seen(shown, model.contract.rul_cap_cycles, run), model.family


def _other_params(records: dict[str, Statement]) -> str:
    """Which section of params.yaml is not the one that a stage signed; "" if each is."""
    from twinseal.config import load
    from twinseal.prognostics.training import TrainParams
    from twinseal.prognostics.windows import PrepareParams

    for stage, kind in (("prepare", PrepareParams), ("train", TrainParams)):
        definition = records[stage].predicate.get("buildDefinition")
        signed = definition.get("externalParameters") if isinstance(definition, dict) else None
        now = load(kind, PARAMS, section=stage).model_dump(mode="json")
        if not isinstance(signed, dict) or signed.get(stage) != now:
            return f"{stage}: expected the section '{stage}' of {PARAMS}, got another one on record"
    return ""

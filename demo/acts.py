"""The acts of the story, in order. Each is a few commands; the attackers' edit files in MLflow's store, or frames."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd

from demo.cmapss import Engines
from demo.plant import interleaved, nearest_to_failure
from demo.site import ANCHOR, Site, meddling
from demo.stage_hand import HOME, StoryError, act, run, say, server_command
from twinseal.cli.options import APPROVALS
from twinseal.console import UNANSWERED
from twinseal.telemetry.contract import Contract
from twinseal.trust.policy_approval import APPROVED

OWNERS = ("gerda", "henrik")
REVIEWERS = ("alice", "bruno")
MACHINES, FRAME_ROWS = 3, 15  # so a frame has five cycles of each
KEPT = "refused, and the twin still runs the model that it had"
NAMED = "each was named, and the twin answers from the rows that came as they were signed"


def first_keys() -> None:
    """Throw-away keys for every role, once; a deployment with real keys is left alone."""
    act("Who may do what: keys, thresholds, and the anchor that the twin is installed with")
    say(f"the home: {HOME}   ($TWINSEAL_HOME below)")
    root = HOME / "anchor/root.json"
    if not root.exists():
        run("twinseal init --demo")
    elif json.loads(root.read_text())["signed"].get("x-twinseal", {}).get("demo") is True:
        say(f"{HOME} holds the demo's keys already")
        if not (APPROVALS / "policy" / APPROVED).exists():  # the keys are of another clone of this checkout
            for owner in OWNERS:
                run(f"twinseal policy approve --as {owner} --yes")
    else:
        raise StoryError(f"{HOME} holds real keys; the demo does not touch them (set TWINSEAL_HOME to another folder)")


def build(engines: Engines | None) -> None:
    """The ML engineer: from telemetry to a candidate that waits for its reviewers."""
    if engines is None:
        act("The ML engineer: dvc repro (simulates a fleet of pumps, trains, attacks, judges, signs, submits)")
        run("dvc repro")
        return
    act(f"The ML engineer: the same pipeline on C-MAPSS {engines.subset.name}")
    run(engines.command())
    _say_how_to_go_back()


def propose(engines: Engines) -> bool:
    """Whether the contract of these engines waits for a person's acceptance; one is proposed where there is none."""
    contracts, asset = Path("policy/contract.yaml"), engines.subset.asset
    if asset not in Contract.load_all(contracts):
        act(f"The ML engineer: no contract knows the engines of {engines.subset.name} yet; one is proposed from them")
        run(engines.proposal())
    return bool(Contract.load(contracts, asset).proposed)


def judge_what_is_proposed(engines: Engines) -> None:
    """Every stage up to the verdict runs on a contract that is only proposed; the verdict must be denied for it."""
    act(f"The ML engineer: the pipeline on C-MAPSS {engines.subset.name}, up to the verdict")
    said = run(engines.command("assess"))
    if "FAILED" not in said or "proposed" not in said:
        raise StoryError("the verdict: expected FAILED, because the contract is only proposed")
    act("What is missing before a model of these engines can be released")
    run(f"twinseal asset check {engines.subset.asset}", expect=(1,))
    _say_how_to_go_back()


def _say_how_to_go_back() -> None:
    say("params.yaml now says cmapss; to go back: git checkout params.yaml && dvc repro")


def approve_and_register() -> None:
    """Two reviewers read and sign; the registrar publishes what two have signed."""
    act("Two reviewers read the evidence and sign")
    run("twinseal review show")
    for reviewer in REVIEWERS:
        run(f"twinseal approve --as {reviewer} --yes")
    act("Two of three have signed: the stage that waited for them runs, and only that one")
    run("dvc repro")


def twin_pulls(url: str) -> None:
    """The operator's twin pulls what is registered, verifies all of it, and predicts."""
    act("The operator's twin pulls, verifies offline, and predicts")
    run(_pull(url))
    _predict()


def twin_pulls_again(url: str) -> None:
    """The same bytes as they were signed are admitted."""
    act("The twin pulls the second release")
    run(_pull(url))


def twin_still_predicts() -> None:
    """After every attack the twin serves the model that it had."""
    act("After both attacks: what the twin runs")
    _predict()


def attacker_records() -> bytes:
    """The attacker keeps a copy of today's metadata, all of it validly signed."""
    return _published("timestamp.json").read_bytes()


def second_release() -> None:
    """The candidate is submitted again and approved again: release 2, as when an approval nears its end."""
    act("Some weeks on: the approval is renewed as a second release, and registered")
    run("dvc repro --force --single-item submit")
    for reviewer in REVIEWERS:
        run(f"twinseal approve --as {reviewer} --yes", quiet=True)
    run("dvc repro")


def attacker_changes_a_byte(url: str) -> None:
    """The owner of MLflow's store changes one byte of the registered model; the twin refuses and keeps what it runs."""
    act("ATTACK 1: whoever owns MLflow's store changes one byte of the registered model")
    weights = registered_weights()
    honest = weights.read_bytes()
    position = len(honest) // 2
    weights.write_bytes(honest[:position] + bytes([honest[position] ^ 1]) + honest[position + 1 :])
    say(f"one bit of byte {position} of {weights.relative_to(HOME)} is flipped")
    try:
        _refused(_pull(url), because="sha256")
    finally:
        weights.write_bytes(honest)
    say("the byte is put back")


def attacker_replays(url: str, recording: bytes) -> None:
    """The attacker serves the older release again, every signature on it genuine; the twin remembers a newer one."""
    act("ATTACK 2: the older release is served again, with its own genuine signatures")
    timestamp = _published("timestamp.json")
    honest = timestamp.read_bytes()
    timestamp.write_bytes(recording)
    say(f"{timestamp.relative_to(HOME)} is the recorded one again")
    try:
        _refused(_pull(url), because="Rollback")
    finally:
        timestamp.write_bytes(honest)


def man_in_the_middle(url: str) -> None:
    """A gateway signs the rows of failing machines; on their way, frames are changed, replayed, dropped and delayed."""
    act("ATTACK 3: on the way from sensors to twin, frames are changed, replayed, dropped and delayed")
    site, rows = Site("plant", _model()), nearest_to_failure(MACHINES)
    names = [str(each.unit.iloc[0]) for each in rows]
    site.begin()
    site.pull(url, quiet=True)
    site.make_key()
    site.enroll_gateway(names)
    site.enroll_machines(names)
    signed = site.gateway(site.write("rows.jsonl", interleaved(rows)), rows_a_frame=FRAME_ROWS)
    said = site.run(signed, meddling(change=3, replay=5, drop=7, delay=9))
    for words in ("forged", "played again", "late", "lost  gate-1, frame 8: 1 frames before it did not come"):
        if words not in said:
            raise StoryError(f"the twin: expected '{words}' to be said, and it was not")
    say(f"[bold green]{NAMED}[/]")


def where_to_look(seconds: float) -> None:
    """The last lines: the report, MLflow's pages, the commands to go on with."""
    act(f"Done in {seconds:.0f} s: all attacks refused, the model that was running kept running")
    say("the report            reports/report.html")
    if not os.environ.get("SERVE"):  # else the server is started next
        say(f"MLflow's pages        {server_command(5000)}")
        say("                      then open http://127.0.0.1:5000")
        say("review it             make demo SERVE=1        (the server where reviewers decide, with this candidate)")
    say("in this folder first  . .venv/bin/activate")
    say("who signed what       twinseal review show")
    say("check it yourself     twinseal verify models/bundle")
    say("again                 dvc repro        (nothing has changed, so nothing runs)")
    say("[yellow]All keys here are throw-away demo keys on one machine: they protect nothing.[/]")


def _pull(url: str) -> str:
    return f"twinseal pull --from {url} --model {_model()} --anchor {ANCHOR} --state {_shown()}"


def _predict() -> None:
    name = "still-running.parquet"
    telemetry = pd.read_parquet("data/raw/telemetry.parquet")
    telemetry[telemetry.censored].drop(columns=["rul", "censored"]).to_parquet(HOME / name)  # what a twin would be sent
    command = f"twinseal run $TWINSEAL_HOME/{name} --model {_model()} --anchor {ANCHOR} --state {_shown()}"
    # A machine older than those that training saw gets no estimate: that is said, and is no fault of the demo.
    run(f"{command} --last --limit 5", expect=(0, UNANSWERED))


def _refused(command: str, *, because: str) -> None:
    running = _running()
    said = run(command, expect=(1,))
    if because not in said:
        raise StoryError(f"the twin refused, but not because of '{because}'")
    if _running() != running:
        raise StoryError("the refusal changed the model that was running")
    say(f"[bold green]{KEPT}[/]")


def _running() -> str:
    return (_state() / "current").read_text()


def _shown() -> str:
    return f"$TWINSEAL_HOME/twin/{_model()}"


def _state() -> Path:
    return HOME / "twin" / _model()  # a directory of its own for each model's twin


def _model() -> str:
    return str(_release()["model"])


def _release() -> dict[str, object]:
    return dict(json.loads(Path("models/release/release.json").read_text()))


def registered_weights() -> Path:
    """The registered model's weights in MLflow's artifact store."""
    found = list((HOME / "mlflow").rglob(f"{_release()['mlflow_model_id']}/artifacts/model/model.safetensors"))
    return _only(found, "the registered model's weights")


def _published(name: str) -> Path:
    """The newest copy in MLflow of a metadata file of this model; another model in the same store has its own."""
    place = HOME / "mlflow" / "artifacts" / str(_release()["model"])
    return _only(list(place.rglob(f"metadata/{name}")), name)


def _only(found: list[Path], what: str) -> Path:
    if len(found) != 1:
        raise StoryError(f"{what}: expected one file in MLflow's store, got {len(found)}")
    return found[0]

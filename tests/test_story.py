"""The demo's way, small: one run of `python -m demo` in a copy of the repository, and what must be true after it.

The fleet here is too small to judge a model by, so the copy's gates are wide; every component is the real one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo import stage_hand
from demo.cmapss import hydra_text
from demo.readme import BLOCK, excerpt
from tests.mlflow_server import serving
from tests.warm import Warm
from twinseal.registry.store import connect
from twinseal.trust.root.checkout import Checkout
from twinseal.trust.root.home import Home

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.timeout(600)

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_command_of_the_demo_may_end_with_the_codes_that_are_expected_and_no_other() -> None:
    assert stage_hand.run("sh -c 'echo no estimate; exit 3'", expect=(0, 3)) == "no estimate\n"
    with pytest.raises(stage_hand.StoryError, match="ended with 1, expected 0 or 3"):
        stage_hand.run("sh -c 'exit 1'", expect=(0, 3))


def test_a_pipeline_of_the_demo_fails_as_its_last_command_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_hand, "HOME", tmp_path / "a 'home' of mine")
    assert f"{tmp_path}/a 'home' of mine/x\n" == stage_hand.run("echo $TWINSEAL_HOME/x \\\n    | cat")
    for pipeline in ("sh -c 'exit 4' | cat", "echo | sh -c 'exit 4'"):
        with pytest.raises(stage_hand.StoryError, match="ended with 4, expected 0"):
            stage_hand.run(pipeline)


def copy_of_the_repository(place: Path) -> Path:
    """What `git clone` would bring, with what is not committed yet, as a repository of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", "-C", str(place)]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "copy"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return place


def home_of(place: Path) -> Path:
    """Where the demo of the copy at `place` has its keys: among the user's own data, not in the copy."""
    return Home.of(Checkout(place.resolve())).path


def runner(place: Path, warm: Warm) -> Run:
    """Runs commands in `place`: our own, also those that others start, as forks of a warm process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TWINSEAL_", "MLFLOW_", "PYTEST_", "COV_"))}
    environment |= {
        "PATH": os.pathsep.join(map(str, (warm.commands, Path(sys.executable).parent, os.environ["PATH"]))),
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
    }

    def run(*command: str, code: int | None = 0, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
        ours = command[2:] if command[:2] == (sys.executable, "-m") else command
        if ours[0] == "twinseal" or ours[0].startswith("pipelines."):
            done = warm.run(*ours, cwd=place, env=environment | extra, stdin=stdin)
        else:
            done = subprocess.run(
                command,
                cwd=place,
                env=environment | extra,
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=500,
            )
        said = f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert code is None or code == done.returncode, said
        return done

    return run


QUICK = {"members": 1, "epochs": 2, "epsilon_sigma": 0.1, "kappa": 0.5}


def make_small(place: Path) -> None:
    """A fleet that is made in seconds, a short training, few attacks, and gates as wide as that deserves."""
    params = yaml.safe_load((place / "params.yaml").read_text())
    params["data"]["simulated"]["units"] = 40
    params["train"]["folds"] = 2
    params["train"]["accurate"] = {"members": 1, "components": 3, "epochs": 2}
    params["train"]["robust"] = {"plain": QUICK | {"epochs": 8}, "commissioned": QUICK | {"epochs": 4}}
    quick = {"parts": 3, "recipe": QUICK}
    params["train"]["certified"] = {"against": "sensors", "sensors": quick, "units": quick}
    (place / "params.yaml").write_text(json.dumps(params))
    threats = yaml.safe_load((place / "policy/threats.yaml").read_text())
    threats["retrain_epochs"] = 4
    threats["extraction"] |= {"queries": [50], "rounding_cycles": [5]}
    threats["sensors"] |= {"most": 1, "steps": 2}
    threats["adaptive"] |= {"epsilon_sigma": [0.1], "rounds": 1, "steps": 20}
    threats["attacks"]["boosted_trees"] |= {"epsilon_sigma": [0.1], "rounds": 20, "queries": 20}
    threats["scenarios"] = [item | {"sizes": item["sizes"][:1]} for item in threats["scenarios"][:2]]
    for attack in threats["evasion"]:
        attack |= {"epsilon_sigma": [0.1, 0.25], "pgd_steps": 5, "bim_steps": 3, "queries": 20}
    for attack in threats["poisoning"]:
        attack["shares"] = attack["shares"][-1:]
    (place / "policy/threats.yaml").write_text(yaml.safe_dump(threats))
    evaluation = yaml.safe_load((place / "policy/evaluation.yaml").read_text())
    (place / "policy/evaluation.yaml").write_text(yaml.safe_dump(evaluation | {"fleets": {}}))
    gates = yaml.safe_load((place / "policy/gates.yaml").read_text())
    for gate in gates["gates"]:
        gate["measure"] = gate["measure"].replace("bad-3", "bad-1")  # of so few units, one may be bad
    for gate in gates["gates"]:
        bounds = [gate, *gate.pop("assets", {}).values()]
        least = any("at_least" in bound for bound in bounds)
        for relation in ("at_most", "at_least", "equals"):
            gate.pop(relation, None)
        gate.update({"at_least": 0} if least else {"at_most": 1 if gate["unit"] == "share" else 1e6})
    (place / "policy/gates.yaml").write_text(yaml.safe_dump(gates))


@pytest.fixture(scope="module", autouse=True)
def _one_core() -> Iterator[None]:
    """The stages work in one process each: others would take longer to start than to do so little."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[os.getpid() % len(cores)]})
    yield
    os.sched_setaffinity(0, cores)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = copy_of_the_repository(tmp_path_factory.mktemp("story") / "twinseal")
    make_small(place)
    return place


@pytest.fixture(scope="session")
def run(place: Path, warm: Warm) -> Run:
    return runner(place, warm)


@pytest.fixture(scope="session")
def story(run: Run) -> Iterator[str]:
    """What the demo printed, once for all tests here."""
    yield run(sys.executable, "-m", "demo").stdout


def test_the_demo_tells_the_whole_story(story: str) -> None:
    acts = [
        "twinseal init --demo",
        "dvc repro",
        "approved by alice",
        "approved by bruno",
        "registered",
        "admitted",
        "ATTACK 1",
        "refused",
        "the twin still runs the model that it had",
        "ATTACK 2",
        "Rollback",
        "the twin still runs the model that it had",
        "ATTACK 3",
        "| python -m demo.man_in_the_middle",
        "each was named, and the twin answers from the rows that came as they were signed",
        "reports/report.html",
    ]
    position = 0
    for expected in acts:
        position = story.find(expected, position)
        assert position >= 0, f"'{expected}' is missing, or out of order\n{story[-3000:]}"


def test_the_readme_quotes_what_the_demo_prints(story: str) -> None:
    """But for digests, sizes and ports, which differ from run to run."""
    quoted = BLOCK.search((ROOT / "README.md").read_text())
    assert quoted
    shape = [" ".join(re.sub(r"[0-9a-f]{12,16}…|[0-9]+", "N", text).split()) for text in (excerpt(story), quoted[0])]
    assert shape[0] in shape[1]


def test_a_second_clone_with_the_keys_of_the_first_gets_its_policy_approved(story: str, run: Run, place: Path) -> None:
    """Found by hand: the demo trained for three minutes, and then refused to sign."""
    approvals, kept = place / "approvals/policy", place.parent / "approved"
    approvals.rename(kept)
    try:
        said = run(sys.executable, "-c", "from demo import acts; acts.first_keys()").stdout
        assert "twinseal policy approve --as gerda" in said
        assert (approvals / "approved.dsse.json").is_file()
    finally:
        shutil.rmtree(approvals, ignore_errors=True)
        kept.rename(approvals)


def test_no_step_of_the_story_shows_a_traceback_or_a_warning(story: str) -> None:
    for word in ("Traceback", "Warning:", "warnings.warn"):
        assert word not in story


def test_a_second_repro_does_nothing_and_says_so(story: str, run: Run) -> None:
    said = run("dvc", "repro").stdout
    assert "Data and pipelines are up to date." in said


@pytest.mark.parametrize(
    "command", ["review show", "approve --as chiara --yes", "reject --as chiara --comment late --yes"]
)
def test_nothing_is_asked_about_a_registered_release(command: str, story: str, run: Run, place: Path) -> None:
    before = sorted(path.name for path in (place / "approvals").iterdir())
    said = run("twinseal", *command.split()).stdout
    assert "is registered: there is nothing to decide" in said
    assert "to decide: twinseal" not in said
    assert before == sorted(path.name for path in (place / "approvals").iterdir())


def test_while_approvals_are_pending_repro_also_does_nothing_and_an_approval_runs_one_stage(
    story: str, run: Run, place: Path
) -> None:
    run("dvc", "repro", "--force", "--single-item", "submit")
    assert "pending" in run("dvc", "repro").stdout
    assert "up to date" in run("dvc", "repro").stdout
    run("twinseal", "approve", "--as", "chiara", "--yes")
    ran = run("dvc", "repro").stdout
    assert ["register"] == [line.split("'")[1] for line in ran.splitlines() if line.startswith("Running stage")]
    assert "pending" == json.loads((place / "reports/registration.json").read_text())["status"]
    run("twinseal", "register", code=1)
    run("twinseal", "reject", "--as", "chiara", "--comment", "on second thoughts", "--yes")
    assert "rejected" in run("twinseal", "review", "show").stdout
    run("dvc", "repro")
    page = _candidate(place).tags["mlflow.note.content"]
    assert "rejected by chiara" in page and "twinseal approve --as" in page


def test_mlflow_shows_how_the_candidate_was_made(story: str, run: Run, place: Path) -> None:
    candidate = _candidate(place)
    made = connect(Home(home_of(place))).client.get_run(candidate.source_run_id)
    assert made.info.run_name.startswith("pump-rul release ")
    assert {"training", "validation", "test"} == {item.tags[0].value for item in made.inputs.dataset_inputs}
    assert made.data.tags["mlflow.user"] and len(made.data.tags["mlflow.source.git.commit"]) == 40
    groups = {name.split("/")[0] for name in made.data.metrics}
    assert {"curves", "evasion", "poisoning", "training", "validation"} <= groups
    assert 30 <= len(made.data.metrics) <= 90
    assert "evasion/clean rmse_cycles" in made.data.metrics
    history = connect(Home(home_of(place))).client.get_metric_history(
        candidate.source_run_id, "curves/validation_rmse_cycles"
    )
    assert list(range(1, 9)) == [point.step for point in history]


def test_dvc_shows_metrics_and_plots(story: str, run: Run, place: Path) -> None:
    shown = json.loads(run("dvc", "metrics", "show", "--json").stdout)[""]["data"]
    assert ["reports/metrics.json"] == list(shown)
    assert 8 <= len(shown["reports/metrics.json"]["data"]) <= 12
    run("dvc", "plots", "show", "--out", "plots")
    page = (place / "plots" / "index.html").read_text()
    assert 4 == page.count("vegaEmbed('#")
    for title in (
        "Training history",
        "Estimate against truth",
        "Error under evasion",
        "certified bound",
        "RMSE [cycles]",
    ):
        assert title in page
    assert "cdn." not in page and "<script src" not in page, "nothing is fetched"
    assert "PASSED" == _verdict(place)["result"]


def test_the_same_inputs_give_the_same_model_byte_for_byte(story: str, run: Run, place: Path) -> None:
    before = {path.name: path.read_bytes() for path in (place / "models/candidate").iterdir()}
    record = (place / "reports/evidence/train.dsse.json").read_bytes()
    run("dvc", "repro", "--force", "--single-item", "train")
    assert before == {path.name: path.read_bytes() for path in (place / "models/candidate").iterdir()}
    assert record == (place / "reports/evidence/train.dsse.json").read_bytes()


def test_an_experiment_runs_with_another_parameter(story: str, run: Run, place: Path) -> None:
    run("dvc", "exp", "run", "-S", "prepare.stride=2", "prepare")
    assert 2 == yaml.safe_load((place / "params.yaml").read_text())["prepare"]["stride"]
    run("dvc", "exp", "run", "-S", "prepare.stride=1", "prepare")


@pytest.mark.attack("P")
def test_telemetry_edited_with_its_time_restored_is_refused_by_the_next_stage(
    story: str, run: Run, place: Path
) -> None:
    """Telemetry is edited, its size and modification time are restored: the next stage refuses it."""
    raw = place / "data/raw/telemetry.parquet"
    honest, times = raw.read_bytes(), raw.stat()
    raw.unlink()  # a link into DVC's cache would change the cache too
    raw.write_bytes(honest[:-100] + bytes([honest[-100] ^ 1]) + honest[-99:])
    os.utime(raw, ns=(times.st_atime_ns, times.st_mtime_ns))
    try:
        refusal = run(sys.executable, "-m", "pipelines.validate", code=1).stderr
        assert "data/raw/telemetry.parquet: expected sha256" in refusal
        assert "Traceback" not in refusal
    finally:
        raw.write_bytes(honest)
        os.utime(raw, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.attack("P")
def test_sign_called_by_hand_on_a_failed_verdict_refuses(story: str, run: Run, place: Path) -> None:
    """`sign` is run by hand on a FAILED verdict: refused, the earlier bundle stays."""
    gates = (place / "policy/gates.yaml").read_text()
    try:
        strict = yaml.safe_load(gates)
        first = next(gate for gate in strict["gates"] if gate["name"] == "accuracy")
        first["at_most"] = 0.001
        (place / "policy/gates.yaml").write_text(yaml.safe_dump(strict))
        judged = run(sys.executable, "-m", "pipelines.assess")
        assert "FAILED" in judged.stdout
        refusal = run(sys.executable, "-m", "pipelines.sign", code=1).stderr
        assert "verdict: expected PASSED, got FAILED (failed gates: accuracy)" in refusal
        assert (place / "models/bundle/model.sig.json").exists(), "the bundle that was signed before must stand"
    finally:
        (place / "policy/gates.yaml").write_text(gates)
        run(sys.executable, "-m", "pipelines.assess")


def cmapss() -> Path | None:
    """Where NASA's files are: $TWINSEAL_CMAPSS, or beside the repository. They never enter it."""
    places = [os.environ.get("TWINSEAL_CMAPSS"), ROOT.parent / "shared" / "data" / "cmapss"]
    return next((Path(place) for place in places if place and (Path(place) / "train_FD001.txt").exists()), None)


@pytest.fixture(scope="module")
def anew(story: str, run: Run, place: Path) -> str:
    """The builder's and a reviewer's key are stolen, and replaced; then everything is made again, for the turbofan too.

    From NASA's telemetry where it is: one run of all stages shows both. What DVC printed.
    """
    home = home_of(place)
    shutil.copytree(home / "anchor", home / "anchor-1")
    for holder in ("builder", "alice"):
        assert "published" in run("twinseal", "keys", "rotate", holder, "--yes").stdout
    assert "expected the signature of builder" in run("twinseal", "verify", "models/bundle", code=1).stderr
    if cmapss() is None:
        return str(run("dvc", "repro").stdout)
    odd = place.parent / "CMAPSS Data (1), ü = {x}"  # as a browser, or a person, names a folder
    odd.symlink_to(cmapss(), target_is_directory=True)  # type: ignore[arg-type]
    changes = ["source=cmapss", "asset=turbofan", f"path={hydra_text(str(odd))}", "cmapss.max_units=30"]
    settings = [word for change in changes for word in ("-S", f"data.{change}")]
    return str(run("dvc", "exp", "run", *settings, "submit").stdout)


@pytest.mark.skipif(
    cmapss() is None, reason="C-MAPSS is not here: set TWINSEAL_CMAPSS to a folder with train_FD001.txt"
)
def test_the_same_pipeline_judges_a_subset_of_c_mapss(anew: str, run: Run, place: Path) -> None:
    assert ("turbofan", "PASSED") == (_verdict(place)["asset"], _verdict(place)["result"])
    assert "turbofan-rul" in run("twinseal", "review", "list").stdout
    assert "pump-rul" in run("twinseal", "review", "list").stdout


def test_after_a_theft_everything_is_made_anew_and_a_twin_with_the_first_root_follows(
    anew: str, run: Run, place: Path
) -> None:
    assert {"ingest", "train", "assess", "sign", "submit"} <= set(re.findall(r"Running stage '(\w+)'", anew))
    for reviewer in ("alice", "bruno"):
        run("twinseal", "approve", "--as", reviewer, "--yes")
    assert "registered" in run("twinseal", "register").stdout
    model = json.loads((place / "models/release/release.json").read_text())["model"]
    home = home_of(place)
    with serving(home) as url:
        command = f"twinseal pull --from {url} --model {model} --anchor {home}/anchor-1 --state {home}/twin/anew"
        assert "admitted" in run(*command.split()).stdout
    decided = run("twinseal", "audit", "show", "--last", "0").stdout
    for event in ("anchored", "submitted", "approved", "rejected", "registered", "rotated"):
        assert event in decided
    run("twinseal", "audit", "verify")
    run("twinseal", "audit", "verify", "--state", str(home / "twin/anew"))


def _candidate(place: Path) -> Any:
    """The candidate of the release at hand, as MLflow has it."""
    model_id = json.loads((place / "models/release/release.json").read_text())["mlflow_model_id"]
    return connect(Home(home_of(place))).client.get_logged_model(model_id)


def _verdict(place: Path) -> dict[str, Any]:
    value = json.loads((place / "reports/verdict.json").read_text())
    assert isinstance(value, dict)
    return value

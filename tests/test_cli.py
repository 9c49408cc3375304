"""The command line as a person meets it: help like a table of contents, and one clear message for every bad input."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_story import ROOT, Run, copy_of_the_repository, home_of, runner
from tests.warm import Warm

GOLDEN = Path(__file__).parent / "golden"
COMMANDS = (
    "",
    "init",
    "use",
    "policy",
    "policy show",
    "policy approve",
    "asset",
    "asset new",
    "asset check",
    "asset reference",
    "asset accept",
    "gates",
    "gates propose",
    "gates accept",
    "review",
    "review list",
    "review show",
    "approve",
    "reject",
    "withdraw",
    "comment",
    "reviewer",
    "reviewer enroll",
    "register",
    "serve",
    "account",
    "account add",
    "account list",
    "account remove",
    "backup",
    "restore",
    "pull",
    "verify",
    "mirror",
    "export",
    "run",
    "gateway",
    "commission",
    "device",
    "device key",
    "device enroll",
    "device revoke",
    "device counter",
    "device show",
    "unit",
    "unit enroll",
    "unit overhaul",
    "unit sensor-replaced",
    "unit counter-replaced",
    "unit retire",
    "unit renew",
    "unit show",
    "trust",
    "trust show",
    "trust renew",
    "trust sign",
    "keys",
    "keys new",
    "keys show",
    "keys rotate",
    "keys revoke",
    "audit",
    "audit show",
    "audit verify",
    "audit prove",
)


def help_of(command: str, warm: Warm) -> str:
    """The help text, at a fixed width and without colours."""
    environment = os.environ | {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1", "_TYPER_FORCE_DISABLE_TERMINAL": "1"}
    done = warm.run("twinseal", *command.split(), "--help", env=environment)
    assert (0, "") == (done.returncode, done.stderr)
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()).strip() + "\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_is_the_golden_one(command: str, warm: Warm) -> None:
    """`python -m tests.test_cli` writes the golden texts anew: read the difference before you commit it."""
    assert (GOLDEN / _name(command)).read_text() == help_of(command, warm)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Path:
    place = copy_of_the_repository(tmp_path_factory.mktemp("cli") / "twinseal")
    runner(place, warm)("twinseal", "init", "--demo")
    (place / "bad.csv").write_text("unit,cycle\n1,1\n")
    (place / "no-unit.csv").write_text("a,b\n1,2\n")
    (place / "broken.jsonl").write_text('{"unit": 1,\n')
    (place / "broken.parquet").write_bytes(b"PAR1 not really PAR1")
    (place / "odd.txt").write_text("x")
    (place / "empty").mkdir()
    return place


@pytest.fixture(scope="module")
def run(place: Path, warm: Warm) -> Run:
    return runner(place, warm)


# command, exit code, what the message must say; every one of them without a traceback
BAD_INPUT = [
    ("twinseal frobnicate", 2, "No such command 'frobnicate'"),
    ("twinseal approve", 2, "Missing option '--as'"),
    ("twinseal reject --as alice", 2, "Missing option '--comment'"),
    ("twinseal verify", 2, "Missing argument"),
    ("twinseal init --demo", 1, "expected no anchor yet, found one"),
    ("twinseal review show", 1, "expected a release that waits for approval, got none"),
    ("twinseal approve --as alice --yes", 1, "expected a release that waits for approval, got none"),
    ("twinseal reject --as alice --comment no --yes", 1, "expected a release that waits for approval, got none"),
    ("twinseal register", 1, "expected a release that waits for approval, got none"),
    (
        "twinseal verify nowhere",
        2,
        "nowhere: expected a signed bundle (model/, model.sig.json, evidence/), got no",
    ),
    ("twinseal verify empty", 1, "expected"),
    ("twinseal verify empty --anchor nowhere", 1, "nowhere"),
    ("twinseal pull --from http://127.0.0.1:9 --model pump-rul", 1, "refused (Registry)"),
    ("twinseal pull --from empty --model pump-rul", 1, "refused"),
    ("twinseal pull --from ftp://x --model pump-rul", 2, "expected http://…, https://…, or a folder"),
    ("twinseal pull --from bad.csv --model pump-rul", 2, "expected http://…, https://…, or a folder"),
    ("twinseal pull --from empty --model other", 1, "model: expected one of pump-rul, turbofan-rul"),
    ("twinseal run bad.csv --model pump-rul", 1, "expected an installed model, got none"),
    ("dvc repro nothing", 255, "nothing"),
]


@pytest.mark.parametrize(("command", "code", "says"), BAD_INPUT, ids=[row[0] for row in BAD_INPUT])
def test_bad_input_is_one_clear_message(run: Run, command: str, code: int, says: str) -> None:
    done = run(*command.split(), code=code)
    assert says in " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in done.stdout + done.stderr


# command, what the message says, and the next step that it names
NEXT_STEPS = [
    ("verify nowhere", "got no such folder", "dvc repro, which makes models/bundle"),
    ("verify empty", "empty: expected a signed bundle", "dvc repro, which makes models/bundle"),
    ("verify policy", "got a folder with none of these", "Then: twinseal verify models/bundle"),
    ("verify bad.csv", "got a file", "dvc repro, which makes models/bundle"),
    ("verify empty --anchor here/root.json", "--anchor: expected a folder outside of", "carried here by hand"),
    (
        "run bad.csv --model pump-rul",
        "twin: expected an installed model, got none",
        "twinseal pull --from URL --model pump-rul --anchor DIR --state twin",
    ),
    ("run bad.csv --model pump", "got none", "Name a model of the anchor: --model pump-rul or --model turbofan-rul or"),
    (
        "commission - --model pump-rul --as emil",
        "expected a file, got the standard input",
        "twinseal commission FILE --model pump-rul --as emil",
    ),
    (
        "approve --as nobody",
        "reviewer: expected one of alice, bruno, chiara, got 'nobody'",
        "Who has which role: twinseal trust show",
    ),
    ("reject --as Alice --comment no", "got 'Alice'", "did you mean --as alice?"),
    ("keys rotate nobody", "nobody: expected one of custodian-1", "Who has which role: twinseal trust show"),
    ("keys revoke alcie", "alcie: expected one of custodian-1", "did you mean alice?"),
    ("keys rotate alice --public nowhere.pub --yes", "expected a public key, got none", "twinseal keys new HOLDER"),
    ("keys rotate alice --public bad.csv --yes", "expected a public key in PEM", "twinseal keys new HOLDER"),
    ("keys show nobody", "expected a key of that name", "twinseal keys show"),
    ("keys show nowhere.pub", "expected a public key, got none", "twinseal keys new HOLDER"),
    ("keys new ../x", "expected a name as in policy/roles.yaml", "twinseal keys new NAME"),
    ("trust sign", "expected a proposal that waits for custodians, got none", "twinseal trust renew"),
    ("init --demo", "expected no anchor yet, found one", "For a new one, move the old home away: mv /"),
    (
        "pull --from empty --model pump-rul",
        "pump-rul: expected metadata/timestamp.json, got none: not found at the source",
        "a mirror has the folders metadata/, targets/",
    ),
    ("pull --from empty --model other", "got 'other'", "--model pump-rul or --model turbofan-rul"),
    ("pull --from nowhere --model pump-rul", "got neither", "twinseal pull --from URL --model pump-rul --anchor DIR"),
    ("pull --from http://127.0.0.1:9 --model pump-rul", "expected an answer of the registry", "curl URL/health"),
    ("pull --from empty --model pump-rul --state bad.csv", "bad.csv: expected a folder for the twin", "--state DIR"),
    ("audit prove 99", "entry: expected one from 0 to", "twinseal audit show --last 0"),
    ("audit verify --against nowhere", "expected a file, got none", "twinseal audit verify --against FILE"),
    ("audit verify --vkey nowhere", "expected an Ed25519 verifier key", "twinseal audit verify --vkey KEY"),
    ("audit show --state empty", "expected an audit log, got none", "twinseal audit show --state DIR"),
    ("--passphrase-fd 1 keys new new", "expected one to read a passphrase from", "twinseal --passphrase-fd 3 COMMAND"),
]


@pytest.mark.parametrize(("command", "says", "step"), NEXT_STEPS, ids=[row[0] for row in NEXT_STEPS])
def test_a_refusal_names_the_next_step(run: Run, command: str, says: str, step: str) -> None:
    done = run("twinseal", *command.split(), code=None)
    assert done.returncode in (1, 2)
    message, _, remedy = " ".join(done.stderr.split()).partition("what to do")
    assert says in message
    assert step in remedy


def test_without_a_project_or_a_home_the_next_step_leads_to_one(run: Run, place: Path, tmp_path: Path) -> None:
    def remedy(*words: str) -> str:
        done = run("twinseal", *words, code=None, TWINSEAL_HOME=str(tmp_path / "none"))
        assert done.returncode in (1, 2)
        return done.stderr.partition("what to do")[2]

    for command in ("trust show", "trust sign", "review list", "approve --as alice", "keys rotate alice", "register"):
        assert "twinseal init --demo" in remedy(*command.split()), command
    assert "--anchor DIR" in remedy("run", "bad.csv", "--model", "pump-rul")
    (place / "policy").rename(place / "elsewhere")
    try:
        assert "Run it in the project's folder" in remedy("init", "--demo")
    finally:
        (place / "elsewhere").rename(place / "policy")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("file", "old", "new", "stage", "says"),
    [
        ("params.yaml", "simulated:", "simulatd:", "ingest", "did you mean 'simulated'"),
        (
            "params.yaml",
            "source: simulated",
            "source: telepathy",
            "ingest",
            "source: expected one of simulated, cmapss, table, sql, got",
        ),
        ("params.yaml", "asset: pump ", "asset: pumpp ", "ingest", "did you mean 'pump'"),
        ("params.yaml", "source: simulated", "source: cmapss", "ingest", "data/inbox"),
        (
            "params.yaml",
            "train:",
            "trian:",
            "prepare",
            "trian: unknown section; expected data, validation, prepare, train, workers",
        ),
        ("params.yaml", "data:", "data: [", "ingest", "params.yaml: expected YAML"),
        ("policy/contract.yaml", "assets:", "assests:", "ingest", "policy/contract.yaml: expected one key 'assets'"),
    ],
)
def test_a_malformed_settings_file_is_one_clear_message(
    run: Run, place: Path, file: str, old: str, new: str, stage: str, says: str
) -> None:
    text = (place / file).read_text()
    assert old in text
    (place / file).write_text(text.replace(old, new, 1))
    try:
        done = run(sys.executable, "-m", f"pipelines.{stage}", code=None)
    finally:
        (place / file).write_text(text)
    assert done.returncode in (1, 2)
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_malformed_roles_policy_makes_no_keys(run: Run, place: Path, tmp_path: Path) -> None:
    roles = (place / "policy/roles.yaml").read_text()
    (place / "policy/roles.yaml").write_text(roles.replace("holders: [builder]", "holders: [alice]"))
    try:
        done = run("twinseal", "init", "--demo", code=2, TWINSEAL_HOME=str(tmp_path / "home"))
    finally:
        (place / "policy/roles.yaml").write_text(roles)
    assert "expected holders who are no" in done.stderr
    assert not (tmp_path / "home").exists()


def test_a_stage_without_a_home_says_how_to_make_one(run: Run, tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "pipelines.validate", code=1, TWINSEAL_HOME=str(tmp_path / "none"))
    assert "twinseal init --demo" in done.stderr


@pytest.mark.parametrize("holder", ["builder", "assessor"])
def test_a_wrong_passphrase_is_refused_before_anything_is_made(
    run: Run, place: Path, tmp_path: Path, holder: str
) -> None:
    """Also that of the key which only later stages sign with."""
    from twinseal.trust.keys.key import generate_key_pair

    shutil.rmtree(place / "data/raw", ignore_errors=True)
    generate_key_pair(tmp_path / f"{holder}.pem", passphrase=b"right")
    wrong = {
        f"TWINSEAL_{holder.upper()}_KEY": f"file:{tmp_path}/{holder}.pem",
        f"TWINSEAL_{holder.upper()}_PASSPHRASE": "wrong",
    }
    done = run(sys.executable, "-m", "pipelines.ingest", code=1, **wrong)
    assert "refused (KeyAccess)" in done.stderr
    assert "expected the right passphrase" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "data/raw").exists()


@pytest.mark.parametrize("after_s", [0.7, 6.0], ids=["while it imports", "while it simulates"])
def test_an_interrupted_stage_leaves_nothing_half_written(run: Run, place: Path, after_s: float) -> None:
    shutil.rmtree(place / "data/raw", ignore_errors=True)
    params = (place / "params.yaml").read_text()
    many = re.sub(r"units: \d+", "units: 4000", params)  # enough to be at it for a while, however fast the machine
    assert many != params
    (place / "params.yaml").write_text(many)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.ingest"],
            cwd=place,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        (place / "params.yaml").write_text(params)
    assert process.returncode in (130, -signal.SIGINT)  # the second while it still imports: a shell calls both 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not (place / "data/raw").exists()


def test_a_home_that_others_may_write_to_is_refused(run: Run, place: Path) -> None:
    """Whoever may write there can exchange the anchor."""
    home_of(place).chmod(0o777)
    try:
        assert "only its owner may write to, got mode 0777" in run("twinseal", "review", "list", code=1).stderr
    finally:
        home_of(place).chmod(0o700)


def test_text_from_outside_cannot_repaint_the_terminal() -> None:
    from twinseal.console import printable

    assert "\ufffd[2Jpwn \\[bold]" == printable("\x1b[2Jpwn [bold]")
    assert "one line \ufffd" == printable("one\r\n line\u2028\t\u202e\n")
    assert (4000, "…") == (len(printable("x" * 10**7)), printable("x" * 5000)[-1])


def test_the_home_is_private(place: Path) -> None:
    assert 0o700 == home_of(place).stat().st_mode & 0o777
    for key in (home_of(place) / "keys").glob("*.pem"):
        assert 0o600 == key.stat().st_mode & 0o777


def _name(command: str) -> str:
    return f"help-{command.replace(' ', '-') or 'twinseal'}.txt"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    with Warm() as forks:
        for name in COMMANDS:
            (GOLDEN / _name(name)).write_text(help_of(name, forks))
    sys.stdout.write(f"written below {GOLDEN.relative_to(ROOT)}: read the difference\n")

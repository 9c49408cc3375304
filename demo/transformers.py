"""A grid's transformers: a throw-away copy of the checkout, in which the tutorial's commands make them a model.

The commands are those of docs/tutorial-transformer.md, where each is explained. They change policy/ and params.yaml, so
they run in a copy with a home of its own: the checkout that you work in stays as it is. The second time, the model is
there already.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from demo.fixed_keys import write_fixed_key
from demo.stage_hand import HOME, StoryError, act, run, say
from twinseal.trust.root.home import Home

ASSET, MODEL = "transformer", "transformer-rul"
SPLIT_KEY = 1  # whoever knows the assessor's key knows the split: here it is to be the same in every run
_EXPORT = "data/inbox/grid"
_NAMES = {
    "Last [%]": "load",
    "Umgebung [°C]": "ambient_temperature",
    "Öltemperatur [°C]": "oil_temperature",
    "H2 [ppm]": "hydrogen",
    "CO [ppm]": "carbon_monoxide",
    "CO2 [ppm]": "carbon_dioxide",
    "Wasser [ppm]": "water",
    "2-FAL [ppm]": "furfural",
}
_SETTINGS = ("Last [%]", "Umgebung [°C]")


def in_a_copy(module: str, told: str, folder: Path) -> int:
    """Run a module of this package in a copy of the committed checkout, below `folder`.

    Args:
        module: Its dotted name.
        told: Its argument, by which it knows that it is there.
        folder: Kept for the next time, while the commit is the same.

    Returns:
        Its exit code.
    """
    checkout = folder / "checkout"
    if folder.exists() and not _is_finished(checkout):
        say(f"{folder} is of another commit, or was not finished: it is made anew")
        shutil.rmtree(folder)
    if not checkout.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _git("clone", "--quiet", ".", str(checkout))
    say(f"a copy of this checkout, with keys of its own: {folder}   (to begin anew, delete it)")
    environment = os.environ | {
        "TWINSEAL_HOME": str(folder / "home"),
        "PYTHONPATH": os.pathsep.join((str(checkout / "src"), str(checkout))),
    }
    return subprocess.run([sys.executable, "-m", module, told], cwd=checkout, env=environment, check=False).returncode


def make_model() -> None:
    """From 400 simulated transformers to a registered release, if it is not there yet."""
    act("The operator of a grid: a model for 400 transformers, by the commands of the tutorial")
    if _is_registered(Path()):
        say(f"{MODEL} is registered here already")
        return
    write_fixed_key(Home(HOME), "assessor", SPLIT_KEY)
    run("twinseal init --demo")
    run(f"python docs/examples/transformer/simulate.py {_EXPORT} --units 400 --seed 7")
    run(_proposal(), quiet=True)
    run("sed -i 's/carbon_monoxide, furfural]/carbon_monoxide, hydrogen]/' policy/threats.yaml")
    run("dvc repro validate", quiet=True)
    run(f"twinseal asset reference {ASSET}")
    if "FAILED" not in run("dvc repro", expect=(0, 255, 1), quiet=True):
        raise StoryError("the first verdict: expected FAILED, because everything is only proposed")
    run(f"twinseal gates propose {ASSET}", quiet=True)
    run(f"twinseal asset accept {ASSET} --as gerda --yes", quiet=True)
    run(f"twinseal gates accept {ASSET} --all --as gerda --yes", quiet=True)
    run("twinseal trust renew --yes", quiet=True)
    for owner in ("gerda", "henrik"):
        run(f"twinseal policy approve --as {owner} --yes", quiet=True)
    run("dvc repro", quiet=True)
    for reviewer in ("alice", "bruno"):
        run(f"twinseal approve --as {reviewer} --yes", quiet=True)
    run("dvc repro", quiet=True)
    if not _is_registered(Path()):
        raise StoryError("reports/registration.json: expected a registered release, got none")
    say(f"{MODEL} is registered")


def _proposal() -> str:
    named = " ".join(
        f'--{"setting" if column in _SETTINGS else "sensor"} "{column}={name}"' for column, name in _NAMES.items()
    )
    cycle = "--zone Europe/Berlin --cycle-length 14d --gather mean"
    return f"twinseal asset new {ASSET} --from {_EXPORT} --failures failures.csv {cycle} {named}"


def _is_finished(checkout: Path) -> bool:
    """Whether a copy is of the commit that is checked out here, and has a registered release."""
    same = (checkout / ".git").is_dir() and _git("-C", str(checkout), "rev-parse", "HEAD") == _git("rev-parse", "HEAD")
    return same and _is_registered(checkout)


def _is_registered(checkout: Path) -> bool:
    path = checkout / "reports/registration.json"
    return path.is_file() and json.loads(path.read_text())["status"] == "registered"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StoryError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()

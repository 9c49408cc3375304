"""The subsets of C-MAPSS that `make cmapss` knows: each whole in policy, each with every change of the recipes."""

from __future__ import annotations

import shlex
import zipfile
from pathlib import Path

import pytest

from bench.accuracy import changed
from demo import __main__ as demo
from demo import acts
from demo.cmapss import SUBSETS, Engines
from twinseal.config import load, parse, read_yaml
from twinseal.policy import read_gates
from twinseal.prognostics.splitting import SplitPolicy
from twinseal.prognostics.training import TrainParams
from twinseal.robustness.threats import Threats
from twinseal.sources.cmapss import CHANNELS
from twinseal.telemetry.contract import Contract
from twinseal.trust.root.roles import Roles

ROOT = Path(__file__).parents[1]
POLICY, PARAMS = ROOT / "policy", ROOT / "params.yaml"
MEASURED = ("FD001", "FD002", "FD003")


@pytest.mark.parametrize("name", MEASURED)
def test_policy_knows_each_measured_subset_as_an_asset_of_its_own(name: str) -> None:
    asset = SUBSETS[name].asset
    contract = Contract.load(POLICY / "contract.yaml", asset)
    assert CHANNELS == tuple(contract.all_channels)
    assert name in contract.description
    assert contract.model in Roles.load(POLICY / "roles.yaml").models
    assert asset in Threats.load(POLICY / "threats.yaml").assets
    fleet = load(SplitPolicy, POLICY / "evaluation.yaml").fleets[asset]
    assert {"source": "cmapss", "cmapss": {"subset": name, "max_units": None}} == fleet


@pytest.mark.parametrize("name", MEASURED)
def test_no_gate_lacks_a_bound_for_a_measured_subset(name: str) -> None:
    with_bounds_by_asset = [gate for gate in read_gates(POLICY).gates if gate.assets]
    assert with_bounds_by_asset
    assert [] == [gate.name for gate in with_bounds_by_asset if SUBSETS[name].asset not in gate.assets]


def test_no_subset_keeps_what_another_one_changed() -> None:
    keys = {name: {change.partition("=")[0] for change in subset.changes} for name, subset in SUBSETS.items()}
    assert keys["FD001"]
    assert dict.fromkeys(SUBSETS, keys["FD001"]) == keys


@pytest.mark.parametrize("name", sorted(SUBSETS))
def test_each_change_is_one_of_params(name: str) -> None:
    kinds_of_wear = 1 if name in ("FD001", "FD002") else 2
    recipes = changed(read_yaml(PARAMS), SUBSETS[name].changes)["train"]
    assert kinds_of_wear + 1 == parse(TrainParams, recipes, "params.yaml").accurate.components


def test_a_run_says_all_of_it_whatever_the_folder_is_called() -> None:
    words = shlex.split(Engines(SUBSETS["FD002"], Path("/a (1), ü/it's {x}")).command("assess"))
    assert ["dvc", "exp", "run"] == words[:3]
    assert "assess" == words[-1]
    assert 'data.path="/a (1), ü/it\'s {x}"' in words
    assert {"data.source=cmapss", "data.asset=turbofan_fd002", "data.cmapss.subset=FD002"} < set(words)
    assert set(SUBSETS["FD002"].changes) < set(words)


def test_a_folder_without_the_subset_is_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train_FD001.txt").write_text("1 1\n")
    assert Engines(SUBSETS["FD001"], tmp_path).are_there
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("train_FD003.txt", "1 1\n")
    assert Engines(SUBSETS["FD003"], tmp_path / "all.zip").are_there
    monkeypatch.setattr("sys.argv", ["demo", "--data", str(tmp_path), "--subset", "FD003"])
    assert 2 == demo.main()
    said = " ".join(capsys.readouterr().out.split())
    assert "expected a folder with train_FD003.txt, or NASA's zip, got neither; nothing was changed" in said


@pytest.mark.parametrize(
    "mark", ["", "    proposed: by twinseal asset new on 2026-11-26\n"], ids=["accepted", "proposed"]
)
def test_a_contract_that_is_there_is_not_proposed_again_and_its_mark_is_seen(
    mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = (POLICY / "contract.yaml").read_text()
    marked = contract.replace("    model: turbofan-fd002-rul\n", f"    model: turbofan-fd002-rul\n{mark}")
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/contract.yaml").write_text(marked)
    monkeypatch.chdir(tmp_path)
    assert bool(mark) is acts.propose(Engines(SUBSETS["FD002"], tmp_path))


def test_the_engines_of_fd004_are_proposed_from_their_files() -> None:
    words = shlex.split(Engines(SUBSETS["FD004"], Path("/a folder")).proposal())
    assert ["twinseal", "asset", "new", "turbofan_fd004", "--from", "/a folder", "--subset", "FD004"] == words[:8]
    assert "turbofan_fd004" not in Contract.load_all(POLICY / "contract.yaml")

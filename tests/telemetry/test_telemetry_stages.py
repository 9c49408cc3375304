"""The stages ingest and validate as programs: real keys, real files, in a folder of their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipelines import ingest, validate
from tests.checkout import link_code
from tests.telemetry.conftest import ROOT, oven_contract, oven_table
from twinseal.digests import sha256_file
from twinseal.errors import ConfigError, DataError, DigestMismatchError, SignatureError
from twinseal.evidence import PROVENANCE, TEST_RESULT, Statement, materials, measures, outcome
from twinseal.trust.root.home import Home
from twinseal.trust.signing.attestation import read_attestation

Write = Callable[..., None]
RAW, ACCEPTED = Path("data/raw/telemetry.parquet"), Path("data/accepted/telemetry.parquet")


@pytest.fixture
def workshop(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """An empty project that makes ovens of a CSV; call it to write the CSV and the params."""
    monkeypatch.chdir(tmp_path)
    link_code(tmp_path)
    monkeypatch.setenv("TWINSEAL_HOME", str(keys))
    shutil.copytree(ROOT / "policy", "policy")
    contract = oven_contract()
    del contract["asset"]
    Path("policy/contract.yaml").write_text(yaml.safe_dump({"assets": {"oven": contract}}, sort_keys=False))

    def write(*, bad: int = 0, **data: Any) -> None:
        table = oven_table({f"oven-{n}": 6 for n in range(8)}).drop(columns="censored")
        table.loc[table["unit"].isin([f"oven-{n}" for n in range(bad)]) & (table["cycle"] == 3), "heat"] = np.nan
        table.to_csv("ovens.csv", index=False)
        mapping = {
            "unit": "unit",
            "cycle": "cycle",
            "settings": {"load": "load"},
            "sensors": {"heat": "heat", "glow": "glow"},
            "rul": "rul",
        }
        params = {"source": "table", "asset": "oven", "path": "ovens.csv", "table": mapping}
        Path("params.yaml").write_text(yaml.safe_dump({"data": params | data}))

    return write


def evidence(stage: str, keys: Path) -> Statement:
    return read_attestation(Path(f"reports/evidence/{stage}.dsse.json"), stage, Home(keys).anchor())


def test_from_a_csv_to_accepted_telemetry_with_signed_evidence(workshop: Write, keys: Path) -> None:
    workshop(bad=2)
    ingest.main()
    validate.main()
    made, tested = evidence("ingest", keys), evidence("validate", keys)
    assert (PROVENANCE, TEST_RESULT, "PASSED") == (made.predicate_type, tested.predicate_type, outcome(tested))
    assert sha256_file(RAW) == made.digest_of(RAW.as_posix()) == tested.digest_of(RAW.as_posix())
    assert sha256_file(ACCEPTED) == tested.digest_of(ACCEPTED.as_posix())
    assert sha256_file(Path("ovens.csv")) in {item.sha256 for item in materials(made)}
    assert 0.25 == measures(tested)["quarantined_share"]
    assert measures(tested) == json.loads(Path("reports/validation/measures.json").read_text())
    findings = json.loads(Path("data/quarantine/findings.json").read_text())
    assert [("oven-0", 3, "heat", "missing"), ("oven-1", 3, "heat", "missing")] == [
        (item["unit"], item["first_cycle"], item["channel"], item["rule"]) for item in findings
    ]
    manifest = json.loads(Path("data/raw/manifest.json").read_text())
    assert (48, 8, 0) == (manifest["rows"], manifest["units"], manifest["units_censored"])
    assert sha256_file(RAW) == manifest["files"][0]["digest"]["sha256"]


def test_the_same_inputs_leave_the_same_bytes(workshop: Write) -> None:
    workshop(bad=1)
    digests = []
    for _ in range(2):
        ingest.main()
        validate.main()
        written = [path for folder in ("data", "reports") for path in Path(folder).rglob("*") if path.is_file()]
        digests.append({str(path): sha256_file(path) for path in written})
    assert digests[0] == digests[1]
    assert 12 == len(digests[0])


def test_no_evidence_names_the_folder_that_the_data_came_from(workshop: Write, tmp_path: Path, keys: Path) -> None:
    workshop(path=str(tmp_path / "ovens.csv"))
    ingest.main()
    assert str(tmp_path).encode() not in evidence("ingest", keys).to_bytes()


@pytest.mark.attack("P")
def test_telemetry_changed_after_ingest_is_refused_and_nothing_new_is_accepted(workshop: Write) -> None:
    """Telemetry is changed after ingest."""
    workshop()
    ingest.main()
    validate.main()
    before = sha256_file(ACCEPTED)
    data = bytearray(RAW.read_bytes())
    data[len(data) // 2] ^= 1
    RAW.write_bytes(data)
    with pytest.raises(DigestMismatchError, match="as ingest signed it"):
        validate.main()
    assert before == sha256_file(ACCEPTED)


@pytest.mark.attack("P")
def test_a_manifest_changed_after_ingest_is_refused(workshop: Write) -> None:
    """The manifest of the telemetry is changed after ingest."""
    workshop()
    ingest.main()
    Path("data/raw/manifest.json").write_text("{}")
    with pytest.raises(DigestMismatchError, match=r"manifest\.json"):
        validate.main()


@pytest.mark.attack("P")
def test_telemetry_that_nobody_signed_is_refused(workshop: Write) -> None:
    """The signed record of ingest is deleted."""
    workshop()
    ingest.main()
    Path("reports/evidence/ingest.dsse.json").unlink()
    with pytest.raises(SignatureError):
        validate.main()


def test_a_refused_fleet_leaves_its_findings_and_nothing_accepted(workshop: Write) -> None:
    workshop()
    ingest.main()
    validate.main()
    workshop(bad=4)
    ingest.main()
    with pytest.raises(DataError, match="at most 30% bad units, got 4 of 8"):
        validate.main()
    assert not ACCEPTED.exists()
    assert 4 == len(json.loads(Path("data/quarantine/findings.json").read_text()))
    assert Path("reports/validation/docs/index.html").is_file()
    assert not Path("data/accepted/reference.json").exists()
    seen = json.loads(Path("data/quarantine/reference.json").read_text())
    assert (True, 8, 301.0, 306.0) == (
        *(seen["refused"], seen["units"]),
        *(seen["channels"]["heat"][bound] for bound in ("minimum", "maximum")),
    )
    workshop()
    ingest.main()
    validate.main()
    assert not Path("data/quarantine/reference.json").exists()
    assert "refused" not in json.loads(Path("data/accepted/reference.json").read_text())


def test_no_row_is_no_telemetry(workshop: Write) -> None:
    workshop()
    Path("ovens.csv").write_text("unit,cycle,load,heat,glow,rul\n")
    with pytest.raises(DataError, match="got no row"):
        ingest.main()
    assert not RAW.exists()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"asset": "stove"}, "contract for the asset 'stove'"),
        ({"path": "absent.csv"}, "absent.csv"),
        ({"sourc": "table"}, "did you mean 'source'"),
    ],
)
def test_params_that_cannot_be_are_refused_before_anything_is_written(
    workshop: Write, data: dict[str, Any], complaint: str
) -> None:
    workshop(**data)
    with pytest.raises(ConfigError, match=complaint):
        ingest.main()
    assert not Path("data").exists()

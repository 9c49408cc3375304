"""Ingest: telemetry from its source in one long form, with a manifest; nothing is judged here.

Reads what data.path names (a simulated fleet: nothing) and policy/contract.yaml. Writes data/raw/telemetry.parquet,
data/raw/manifest.json and the signed provenance of both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines import _stage
from twinseal.console import out, printable, run_stage
from twinseal.errors import DataError
from twinseal.files import write_json
from twinseal.sources.data_params import DataParams, open_source
from twinseal.sources.source import Source
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.mapping import MAPPING

TELEMETRY, MANIFEST = Path("data/raw/telemetry.parquet"), Path("data/raw/manifest.json")


def main() -> None:
    """Read, bring into the long form, write, sign."""
    _stage.check_signing_key("ingest")
    params = _stage.params(DataParams, "data")
    contract = _stage.contract()
    with out.status(f"reading telemetry of '{params.asset}' from the source '{params.source}'"):
        source = open_source(params, contract)
        fleet = source.read()
    if not len(fleet):
        raise DataError(f"ingest: expected telemetry from the source '{params.source}', got no row")
    fleet.write(TELEMETRY)
    write_json(MANIFEST, manifest(fleet, source, params))
    _stage.attest_provenance(
        "ingest",
        _stage.subject(TELEMETRY),
        _stage.subject(MANIFEST),
        materials=source.origin(),
        # A path is this machine's business: the digests of what was read are among the materials.
        parameters={"data": params.model_dump(mode="json") | {"path": Path(params.path).name}, **mapping(source)},
    )
    for remark in source.remarks():
        out.print(f"[yellow]note[/]  {printable(remark)}")
    asset = printable(params.asset)
    out.print(f"ingested: {len(fleet):,} cycles of {len(fleet.units)} units of '{asset}' ({params.source})")


def mapping(source: Source) -> dict[str, Any]:
    """How the columns of a plant's files became channels: the twin reads it from the signed record in the bundle."""
    found = source.mapping()
    return {} if found is None else {MAPPING: found.model_dump(mode="json")}


def manifest(fleet: Fleet, source: Source, params: DataParams) -> dict[str, Any]:
    """What was ingested, for people and programs."""
    lengths = fleet.lengths
    return {
        "asset": params.asset,
        "source": params.source,
        "origin": [item.to_dict() for item in source.origin()],
        "rows": len(fleet),
        "units": len(fleet.units),
        "units_censored": sum(trajectory.censored for trajectory in fleet.trajectories()),
        "cycles": {"fewest": int(lengths.min()), "most": int(lengths.max())},
        "channels": list(fleet.channels),
        "remarks": list(source.remarks()),
        "files": [_stage.subject(TELEMETRY).to_dict() | {"length": TELEMETRY.stat().st_size}],
    }


if __name__ == "__main__":
    run_stage(main)

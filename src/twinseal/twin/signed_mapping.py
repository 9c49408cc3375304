"""The mapping of the plant's files in the signed record of ingest: it gives each channel of the contract once.

A channel that comes from a table of events or of machines, by the same record, is a column of its own name at the twin.
"""

from __future__ import annotations

from typing import Any

from twinseal.config import Field, PartialSettings, parse
from twinseal.errors import ConfigError, EvidenceError
from twinseal.evidence import Statement, stage_params
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.mapping import MAPPING, ColumnMapping, check_channels

_WHERE = "evidence: ingest: mapping"


class _Machines(PartialSettings):
    settings: dict[str, str] = Field(default_factory=dict)


class _Events(PartialSettings):
    counts: dict[str, Any] = Field(default_factory=dict)
    machines: _Machines | None = None


class _Source(PartialSettings):
    measured_in: dict[str, str] = Field(default_factory=dict)
    events: _Events = _Events()


class _Data(PartialSettings):
    asset: str
    source: str


def signed_mapping(ingest: Statement | None, contract: Contract) -> ColumnMapping | None:
    """The mapping that the record of ingest names; None if it names none: telemetry of another kind.

    Args:
        ingest: The record, its signature verified.
        contract: Of the model: what the rows must be.

    Raises:
        EvidenceError: It is no mapping; or does not give each channel of the contract once, and no other; or a column
            that was measured in another unit has no factor to that of the contract.
    """
    params = stage_params(ingest) if ingest else {}
    if params.get(MAPPING) is None:
        return None
    try:
        mapping = parse(ColumnMapping, params[MAPPING], _WHERE)
        data = parse(_Data, params.get("data"), "evidence: ingest: data")
        source = parse(_Source, params["data"].get(data.source), f"evidence: ingest: data.{data.source}")
        if data.asset != contract.asset:
            raise ConfigError(f"{_WHERE}: expected one for the asset {contract.asset}, got one for {data.asset}")
        machines = source.events.machines.settings if source.events.machines else {}
        check_channels(mapping, contract, _WHERE, (*source.events.counts, *machines.values()))
        unconverted = sorted(set(source.measured_in) - set(mapping.scale))
        if unconverted:
            raise ConfigError(
                f"{_WHERE}.scale: expected a factor and an offset for each column that was measured in another unit "
                f"than the contract's, got none for {unconverted}"
            )
    except ConfigError as error:
        raise EvidenceError(
            str(error), remedy="This release must not run. Tell whoever built it; the twin keeps the model that it has."
        ) from error
    return mapping

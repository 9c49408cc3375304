"""What `validate` reports of a fleet."""

from __future__ import annotations

from twinseal.measures.keys import Name, Regime
from twinseal.measures.quantity import Group, quantity


class ValidationMeasures(Group):
    """How much there was, what was found, and how far the fleet lies from the reference.

    Attributes:
        drift_compared: 1 when the fleet was compared with a reference; 0 when there is none.
        drift_psi: The population stability index of each channel (Siddiqi 2006); empty without a reference.
        drift_max_psi: The largest of them; absent without a reference.
        drift_regimes: Within how many operating points the fleet was compared; absent where the contract names none.
        regime_rows: Accepted rows at each operating point; absent where the contract names none.
        values_filled: Missing readings that were filled from the rows before them.
    """

    rows_total: int = quantity("rows", "rows read", "larger")
    units_total: int = quantity("units", "units read", "larger")
    units_quarantined: int = quantity("units", "units quarantined", "smaller")
    quarantined_share: float = quantity("share", "units quarantined", "smaller")
    expectations_total: int = quantity("expectations", "expectations", "larger")
    expectations_failed: int = quantity("expectations", "expectations broken", "smaller")
    findings_by_rule: dict[Name, int] = quantity("findings", "findings", "smaller")
    drift_compared: int = quantity("fleets", "compared with a reference fleet", "larger")
    drift_psi: dict[Name, float] = quantity("PSI", "drift from the reference", "smaller")
    drift_max_psi: float | None = quantity("PSI", "largest drift from the reference", "smaller", optional=True)
    drift_regimes: int | None = quantity("operating points", "compared with the reference", "larger", optional=True)
    regime_rows: dict[Regime, int] | None = quantity("rows", "rows at an operating point", "larger", optional=True)
    values_filled: int = quantity("readings", "readings filled", "smaller")

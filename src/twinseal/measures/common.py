"""What is measured of any estimates: how accurate they are, and the worst case under an attack."""

from __future__ import annotations

from twinseal.measures.quantity import Group, quantity


class WorstCase(Group):
    """What estimates come to at the end that harms most.

    Attributes:
        rmse_cycles: Root mean square error over the test windows.
        missed_failure_share: Of the failing windows (true RUL <= 30 cycles), the share estimated above 60 cycles;
            absent where no window is failing.
    """

    rmse_cycles: float = quantity("cycles", "RMSE", "smaller")
    missed_failure_share: float | None = quantity("share", "missed failures", "smaller", optional=True)


class Accuracy(WorstCase):
    """How good estimates are without an attack.

    Attributes:
        nasa_score: The score of PHM08 (Saxena et al. 2008): late estimates cost more.
        late_share: The share of estimates that are later than the truth.
        windows: Windows behind the RMSE.
        units: Independent machines that these are of.
        failing_windows: Windows behind `missed_failure_share`.
        failing_units: Independent machines that those are of: the n of every statement about missed failures.
    """

    nasa_score: float = quantity("points", "NASA score", "smaller")
    late_share: float = quantity("share", "late estimates", "smaller")
    windows: int = quantity("windows", "windows", "larger")
    units: int = quantity("units", "units", "larger")
    failing_windows: int = quantity("windows", "failing windows", "larger")
    failing_units: int = quantity("units", "failing units", "larger")

"""The contracts and fleets of the tests of telemetry, here too."""

from __future__ import annotations

from tests.telemetry.conftest import cmapss_folder, engines, oven, pump, pumps, turbofan

__all__ = ["cmapss_folder", "engines", "oven", "pump", "pumps", "turbofan"]

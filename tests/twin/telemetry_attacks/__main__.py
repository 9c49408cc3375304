"""`python -m tests.twin.telemetry_attacks`: write the list of attacks into docs/robustness/telemetry.md."""

from tests.twin.telemetry_attacks.page import PAGE, page

PAGE.write_text(page(PAGE.read_text()))

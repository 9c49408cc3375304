"""`python -m tests.attacks`: write the table of attacks into docs/trust.md."""

from tests.attacks.table import PAGE, page

PAGE.write_text(page(PAGE.read_text()))

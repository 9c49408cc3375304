"""Gates: what the policy asks, what was observed, and whether each record is about this model."""

from __future__ import annotations

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Content, Gates, Heading, Table, Text
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import DASH
from twinseal.evidence import PROVENANCE, TEST_RESULT, VERIFICATION_SUMMARY, Statement, outcome

TYPES = {PROVENANCE: "provenance", TEST_RESULT: "test result", VERIFICATION_SUMMARY: "verification summary"}


def build(case: Case) -> Content:
    """Every gate with its result, then the chain of records."""
    verdict = case.verdict
    return Content(
        below=(
            Text(
                "A candidate is denied unless there is evidence for it. In each drawing the tinted side is allowed, "
                "the upright line is the bound, and the dot is what was observed."
            ),
            Gates(
                f"Every gate of policy/gates.yaml for the asset {verdict.asset} and the family {case.config.family}",
                verdict.gates,
            ),
            Heading("Records"),
            Text(
                "Each record must exist, be signed by the role that answers for it, have the result PASSED where its "
                "type has a result, and lead by SHA-256 to the files that were judged."
            ),
            records(case),
        )
    )


def records(case: Case) -> Table:
    """The chain of evidence, a row a record."""
    rows = tuple(
        (item.stage, record_type(case.statements.get(item.stage)), item.result, item.reason or "–")
        for item in case.verdict.evidence
    )
    headers = ("stage", "record", "about this model", "if not, why")
    return Table("The chain of evidence, from telemetry to model", headers, rows, prose=True)


def record_type(statement: Statement | None) -> str:
    """A statement's type and result in words."""
    if statement is None:
        return DASH
    stated = outcome(statement)
    return TYPES.get(statement.predicate_type, "unknown") + (f", {stated}" if stated else "")


SECTION = Section("gates", "Gates", 0, build)

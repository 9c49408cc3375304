"""The model card: what the model is for, what it was measured to do, and where not to use it, in Markdown.

The headings follow Mitchell et al. 2019 ("Model Cards for Model Reporting"), with the front matter that model hubs
read. Text from telemetry or settings is escaped: a card is shown as rendered Markdown by MLflow and by hubs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from twinseal.assurance.case import Case
from twinseal.assurance.report import caveats, tables
from twinseal.assurance.report.measured import group
from twinseal.assurance.report.tables import Table
from twinseal.digests import canonical_json

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|!~$])")


def write(case: Case) -> str:
    """The model card of a case as Markdown. Same case, same text."""
    parts = [
        _front_matter(case),
        f"# Model card: {escape(case.model_name)}",
        _verdict(case),
        _details(case),
        _use(case),
        _factors(case),
        _metrics(case),
        _section(
            "Evaluation data", "Units that training never saw, split by unit, never by window.", tables.data(case)
        ),
        _section(
            "Training data", "See the digests in the assessment report; the normaliser saw training units only.", ()
        ),
        _analyses(case),
        _caveats(case),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Text from outside as Markdown that shows it and does nothing else: one line, no markup, no HTML, no links."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", line).replace("://", ":&#47;&#47;")


def markdown(table: Table) -> str:
    """A table in Markdown, its caption in italics above it, every cell escaped."""
    rows = [table.headers, tuple("---" if index == 0 else "---:" for index in range(len(table.headers))), *table.rows]
    lines = [f"| {' | '.join(cells if index == 1 else map(escape, cells))} |" for index, cells in enumerate(rows)]
    return f"*{escape(table.caption)}*\n\n" + "\n".join(lines)


def _front_matter(case: Case) -> str:
    # JSON strings are YAML strings: what is quoted here cannot end the front matter or add a key to it.
    name = canonical_json(case.model_name).decode()
    tags = ["predictive-maintenance", "remaining-useful-life", "digital-twin"]
    listed = "\n".join(f"- {tag}" for tag in tags)
    return f"---\nmodel_name: {name}\nlibrary_name: twinseal\npipeline_tag: tabular-regression\ntags:\n{listed}\n---"


def _verdict(case: Case) -> str:
    verdict = case.verdict
    lines = [f"**Verdict: {verdict.result}** ({len(verdict.gates)} gates, asset {escape(verdict.asset)})"]
    lines += [f"- {escape(failure)}" for failure in verdict.failures]
    rows = tuple(
        (gate.name, tables.quantity(gate.observed, gate.unit), tables.bound(gate), gate.result)
        for gate in verdict.gates
    )
    table = Table("Gates of policy/gates.yaml", ("gate", "observed", "bound", "result"), rows)
    return "\n".join(lines) + "\n\n" + markdown(table)


def _details(case: Case) -> str:
    files = Table("Files", ("file", "sha256"), tuple((item.name, item.sha256) for item in case.model))
    text = (
        "A small feed-forward network over multi-scale means and slopes of recent telemetry, trained against "
        "bounded changes "
        "of its input (interval bound propagation), so that worst-case errors can be certified. PyTorch; safetensors."
    )
    return _section("Model details", text, (files, tables.environment(case)))


def _use(case: Case) -> str:
    return (
        "## Intended use\n\n"
        "- **For**: estimating remaining useful life, in cycles, of assets of the kind "
        f"`{escape(case.asset)}`, inside a "
        "digital twin that admits only verified models and guards every input.\n"
        "- **By**: maintenance planners, as one input to a decision that a person makes.\n"
        "- **Not for**: other kinds of machine, other operating conditions than the contract's, safety trips, or any "
        "decision without a person in it."
    )


def _factors(case: Case) -> str:
    quarantined = tables.shown("", group(case.statements, "validate").get("units_quarantined"))
    return (
        "## Factors\n\nOperating settings, sensor health and failure mode. Telemetry outside the ranges of the signed "
        f"contract.json is outside what was tested. Units set aside by validation: {quarantined}."
    )


def _metrics(case: Case) -> str:
    text = (
        "RMSE in cycles; NASA's asymmetric score (Saxena et al. 2008, late estimates cost more); share of "
        "late estimates; "
        "missed failures: share of machines with at most 30 cycles left that are estimated above 60."
    )
    return _section("Metrics", text, (tables.accuracy(case),))


def _analyses(case: Case) -> str:
    found = (*tables.evasion(case), tables.injection(case), tables.poisoning(case))
    return _section("Quantitative analyses", "Clean, attacked and certified, on the same test windows.", found)


def _caveats(case: Case) -> str:
    lines = [f"- {'**Grave.** ' if caveat.grave else ''}{escape(caveat.text)}" for caveat in caveats.find(case)]
    ethics = (
        "## Ethical considerations\n\nA wrong estimate can hurt people who rely on a machine. An estimate "
        "that is too long is "
        "worse than one that is too short; where in caveat the twin says: inspect now."
    )
    return f"{ethics}\n\n## Caveats and recommendations\n\n" + "\n".join(lines)


def _section(title: str, text: str, found: Iterable[Table | None]) -> str:
    return "\n\n".join([f"## {title}", text, *(markdown(table) for table in found if table is not None)])

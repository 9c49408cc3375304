"""The model card: what the model is for, what it was measured to do, and where not to use it, in Markdown.

The headings follow Mitchell et al. 2019 ("Model Cards for Model Reporting"), with the front matter that model hubs
read. Its tables and caveats are those of the report's sections. Text from telemetry or settings is escaped: a card is
shown as rendered Markdown by MLflow and by hubs.
"""

from __future__ import annotations

from twinseal.assurance.case import Case
from twinseal.assurance.report import tables
from twinseal.assurance.report.blocks import Table
from twinseal.assurance.report.candidate_words import sentences
from twinseal.assurance.report.section import Built, CardPart, all_caveats
from twinseal.assurance.report.tables import shown
from twinseal.digests import canonical_json
from twinseal.escaping import markdown as escape
from twinseal.prognostics.metrics import FAILING_CYCLES, HEALTHY_CYCLES


def render(case: Case, built: tuple[Built, ...]) -> str:
    """The model card of a case as Markdown. Same case and sections, same text.

    Args:
        case: What was judged.
        built: As `section.build_all` made them from the same case.
    """
    parts = [
        _front_matter(case),
        f"# Model card: {escape(case.model_name)}",
        _verdict(case),
        _details(case),
        _use(case),
        _factors(case),
        _part("Metrics", METRICS, built, "metrics"),
        _part("Evaluation data", EVALUATION, built, "evaluation data"),
        f"## Training data\n\n{TRAINING}",
        _part("Quantitative analyses", ANALYSES, built, "analyses"),
        f"## Ethical considerations\n\n{ETHICS}",
        _caveats(built),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


METRICS = (
    "RMSE in cycles. NASA's score (Saxena et al. 2008), in which late estimates cost more. The share of late "
    f"estimates. Missed failures: the share of machines with at most {FAILING_CYCLES:g} cycles left that are "
    f"estimated above {HEALTHY_CYCLES:g}."
)
EVALUATION = "Units that training never saw: telemetry is split by unit, never by window."
TRAINING = "See the digests in the assessment report. The normaliser was fitted on training units only."
ANALYSES = "Without an attack, attacked, and certified, on the same windows."
ETHICS = (
    "A wrong estimate can hurt people who rely on a machine. An estimate that is too long is worse than one that is "
    "too short. If the guard abstains, the twin says: inspect now."
)


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
        (gate.name, gate.result, tables.quantity(gate.observed, gate.unit), tables.bound(gate))
        for gate in verdict.gates
    )
    table = Table("Gates of policy/gates.yaml", ("gate", "result", "observed", "bound"), rows)
    return "\n".join(lines) + "\n\n" + markdown(table)


def _details(case: Case) -> str:
    files = Table("Files", ("file", "sha256"), tuple((item.name, item.sha256) for item in case.model))
    facts = "\n".join(f"- {sentence}" for sentence in (*sentences(case.config), "PyTorch; weights as safetensors."))
    return f"## Model details\n\n{facts}\n\n{markdown(files)}"


def _use(case: Case) -> str:
    return (
        "## Intended use\n\n"
        "- **For**: estimating remaining useful life, in cycles, of assets of the kind "
        f"`{escape(case.asset)}`, inside a digital twin that admits only verified models and guards every input.\n"
        "- **By**: maintenance planners, as one input to a decision that a person makes.\n"
        "- **Not for**: other kinds of machine, other operating conditions than the contract's, safety trips, or any "
        "decision without a person in it."
    )


def _factors(case: Case) -> str:
    found = case.measures.validate
    quarantined = shown(found.units_quarantined if found else None, "units")
    return (
        "## Factors\n\nOperating settings, sensor health and failure mode. Telemetry outside the ranges of the signed "
        f"contract.json is outside what was tested. Units set aside by validation: {quarantined}."
    )


def _part(title: str, text: str, built: tuple[Built, ...], part: CardPart) -> str:
    """One heading of the card, with the tables of every section that belongs under it."""
    found = [markdown(table) for item in built if item.section.in_card == part for table in item.tables]
    return "\n\n".join([f"## {title}", text, *found])


def _caveats(built: tuple[Built, ...]) -> str:
    lines = [f"- {'**Grave.** ' if c.grave else ''}{escape(c.text)}" for c in all_caveats(built)]
    return "## Caveats and recommendations\n\n" + "\n".join(lines)

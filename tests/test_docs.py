"""The documents: short lines, links and paths that lead somewhere, and decisions by one template, all in the index."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
SETTINGS = [ROOT / "params.yaml", *sorted((ROOT / "policy").glob("*.yaml"))]
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
INDEX = DOCS / "decisions" / "README.md"

MAX_LINE = 120
GENERATED = (
    # By tests/attacks/table.py: only the names and links of the tests make its rows long.
    re.compile(r"<!-- attacks: .*?<!-- end of attacks -->", re.DOTALL),
    re.compile(r"<!-- demo: begin -->.*?<!-- demo: end -->", re.DOTALL),  # by a run of the demo
)
URL = re.compile(r"https?://[^\s)>]+")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# A file with one of these suffixes is part of the repository; other files that the docs name are made by a run.
QUOTED = re.compile(r"`([\w./-]+\.(?:py|md|yaml|toml|sh))`")
PLAIN = re.compile(r"(?<![\w./-])((?:src|docs|tests|pipelines|policy|bench|demo|requirements)/[\w./-]+\.\w+)")
PACKAGE = re.compile(r"`([\w./-]+)/`")
MADE_BY_A_RUN = ("data", "models", "reports", ".twinseal", "log", "proposal")

SECTIONS = ("Context", "Options", "Outcome", "Cost")
STATUS = re.compile(r"proposed|accepted|rejected|replaced by \d+")
ROW = re.compile(r"^\| (\d+) \| \[(.+)\]\(([\w-]+\.md)\) \| (.+) \| ([\d-]+) \|$", re.MULTILINE)

TERMS = """
RUL, window, cycle, unit, regime, contract, quarantine, evasion, poisoning, healthy-washing, backdoor, clean-label,
certificate, IBP, CROWN, ε, σ, missed failure, NASA score, guard, guard decision, guard replay, cross-channel check,
abstention, baseline, baseline record, baseline verifier, commissioning, telemetry reader, candidate, bundle, release,
anchor, root, role, threshold, attestation, statement, predicate, DSSE, OMS, TUF, in-toto, SLSA, provenance,
verification summary, twin, registry, champion, stage, gate, verdict, caveat, evidence chain, battery, target,
worst case, gradient attack, square attack, gradient boosting, APGD, controlled sensors, stealth constraints,
repair abuse, extraction, membership inference"""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def written_by_hand(text: str) -> str:
    """The text without what a program writes into it."""
    for region in GENERATED:
        text = region.sub("", text)
    return text


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_lines_are_at_most_120_characters(page: Path) -> None:
    lines = (URL.sub("", line) for line in written_by_hand(page.read_text()).splitlines())
    assert [] == [line for line in lines if len(line) > MAX_LINE]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_to_a_file_and_to_a_heading_that_is_there(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)}: expected a file at {link}, got none"
        assert not fragment or fragment in anchors(target), f"{name(page)}: expected a heading at {link}, got none"


def anchors(page: Path) -> set[str]:
    """The fragments by which the headings of a page are linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def paths(text: str) -> set[str]:
    """The files and packages of the repository that a text names."""
    packages = {path for path in PACKAGE.findall(text) if path.split("/")[0] not in MADE_BY_A_RUN}
    return set(QUOTED.findall(text)) | set(PLAIN.findall(text)) | packages


def exists(path: str, page: Path) -> bool:
    places = (ROOT, ROOT / "src/twinseal", ROOT / "requirements", page.parent)
    return any((place / path).exists() for place in places)


@pytest.mark.parametrize("page", [*PAGES, *SETTINGS], ids=name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    assert [] == sorted(path for path in paths(written_by_hand(page.read_text())) if not exists(path, page))


def test_paths_are_found_in_the_text() -> None:
    text = "See `guard/wear.py`, `trust/audit/`, policy/gates.yaml and `data/raw/`; `dvc repro` writes models/bundle."
    assert {"guard/wear.py", "trust/audit", "policy/gates.yaml"} == paths(text)
    assert 50 < sum(len(paths(page.read_text())) for page in PAGES)


@dataclass(frozen=True)
class Decision:
    """What the index says of a decision."""

    number: str
    title: str
    file: str
    status: str
    date: str


def read_decision(path: Path) -> Decision:
    """The record at `path`, which follows the template.

    Raises:
        AssertionError: It does not; the message says where.
    """
    text = path.read_text()
    heading = re.match(r"# (\d+)\. (.+)\n\n- Status: (.+)\n- Date: (.+)\n\n## ", text)
    assert heading, f"{path.name}: expected '# N. Title', '- Status: …' and '- Date: …' first, got {text[:80]!r}"
    number, title, status, day = heading.groups()
    assert f"{int(number):04}" == path.name[:4]
    assert STATUS.fullmatch(status), f"{path.name}: expected a status of the template, got {status!r}"
    assert day == date.fromisoformat(day).isoformat()
    _, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    bodies = {section.partition("\n")[0]: section.partition("\n")[2].strip() for section in sections}
    assert SECTIONS == tuple(bodies), f"{path.name}: expected {SECTIONS}, got {tuple(bodies)}"
    assert all(bodies.values()), f"{path.name}: expected text in every section"
    return Decision(number, title, path.name, status, day)


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name)
def test_a_decision_follows_the_template(path: Path) -> None:
    assert path.name == read_decision(path).file


def test_the_index_lists_every_decision_as_it_is() -> None:
    listed = [Decision(number, title, file, status, day) for number, title, file, status, day in rows()]
    assert [read_decision(path) for path in DECISIONS] == listed


def test_no_two_decisions_have_one_number() -> None:
    numbers = [path.name[:4] for path in DECISIONS]
    assert sorted(set(numbers)) == numbers


def rows() -> list[tuple[str, str, str, str, str]]:
    return ROW.findall(INDEX.read_text())


def test_each_term_of_the_glossary_has_one_row_with_meaning_and_source() -> None:
    table = re.findall(r"^\| (?!term |---)(.+) \|$", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    cells = [row.split(" | ") for row in table]
    assert {3} == {len(row) for row in cells}
    assert all(meaning.endswith((".", ").")) and source for _, meaning, source in cells)
    terms = [term for term, _, _ in cells]
    assert sorted(set(terms)) == sorted(terms)


@pytest.mark.parametrize("term", [term.strip() for term in TERMS.split(",")])
def test_the_glossary_has_the_terms_that_the_documents_use(term: str) -> None:
    assert f"| {term} |" in (DOCS / "glossary.md").read_text()


def test_the_readme_has_one_place_for_the_transcript_of_the_demo() -> None:
    begin, end = "<!-- demo: begin -->", "<!-- demo: end -->"
    text = (ROOT / "README.md").read_text()
    assert (1, 1) == (text.count(begin), text.count(end))
    assert "refused" in text[text.index(begin) : text.index(end)]

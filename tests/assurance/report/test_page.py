from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.assurance.candidate import KINDS, Kind, build, estimates, holder, lives, subject
from tests.assurance.conftest import card, rendered
from twinseal.assurance.case import Case
from twinseal.assurance.gates import Bound, GateResult
from twinseal.assurance.report import model_card, page
from twinseal.assurance.report.blocks import Block, Content, Figure, Folded, Pair, Text
from twinseal.assurance.report.figures import PALETTE, plain
from twinseal.assurance.report.section import Built, all_sections, build_all
from twinseal.evidence import Statement

CaseOf = Callable[..., Case]

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; background: url(https://evil.example/x) {{ 7 * 7 }}{% raw %}",
    "</style><svg onload=alert(1)>]]><!--",
    "$\\frac{1}{0}$ $ a\x00b\x1b[31m\u202e",
)
VOID = {"meta", "br", "img", "hr", "link", "input", "path", "rect", "circle", "use"}


class Page(HTMLParser):
    """What a browser would build: every element with its attributes, and whether tags balance."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def hostile(case_of: CaseOf, statements: dict[str, Statement], text: str) -> Case:
    """A case in which everything that comes from outside is `text`, or as near to it as the types of measures allow."""
    word = "".join(letter for letter in text if letter.isascii() and (letter.isalnum() or letter in "_. -"))[:40]
    name = f"x{word}"  # keys of measures are of few letters; `details` and all else may be anything
    evade = holder(statements["evade"])
    for group in (evade["evasion"], evade["commissioned"]):
        group["attacks"] = {name: group["attacks"]["small-changes"]}
        group["flags"] = {"raised": 1, "by_check": {"no-growth": 1}, "details": [text]}
    evade["injection"]["signatures"] = {name: evade["injection"]["signatures"]["biased-interim-up"]}
    evade["owned_sensors"]["alone"] = {name: {"rise_cycles": 1.0, "chosen_first_share": 1.0}}
    poison = holder(statements["poison"])
    poison["attacks"] = {name: poison["attacks"]["backdoor"]}
    holder(statements["validate"])["findings_by_rule"] = {name: 1}
    statements["validate"].predicate["warnedTests"] = [text]
    statements["evade"].predicate["passedTests"] = [text]
    definition = statements["train"].predicate["buildDefinition"]
    definition["externalParameters"] = {text: text}
    definition["internalParameters"] = {"machine": text, "packages": {"torch": text}}
    case = case_of(
        statements,
        model_name=text,
        estimates=tuple(replace(item, unit=text) for item in estimates()),
        lives=lives(text, text),
        findings=(text,),
        unsigned=(text,),
        inputs=(subject(text),),
    )
    assert case.measures.faults == {}
    return case


@pytest.fixture(scope="session")
def html(case_of: CaseOf) -> str:
    """The page of a case in order."""
    return rendered(case_of())


@pytest.fixture(scope="session")
def harmless_tags(case_of: CaseOf) -> set[str]:
    """The elements of a page in which all text from outside is one plain word."""
    return {tag for tag, _ in Page(rendered(hostile(case_of, build(), "word"))).elements}


def test_the_page_needs_nothing_but_itself(html: str) -> None:
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "audio", "video"} == set()
    for tag, attributes in page.elements:
        assert not any(key.startswith("on") for key in attributes), (tag, attributes)
        for key in ("src", "href", "xlink:href", "action", "data"):
            assert attributes.get(key, "#").startswith("#"), (tag, attributes)
    policies = [a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"]


def test_no_style_reaches_out(html: str) -> None:
    assert re.findall(r"url\((?!#)[^)]*\)|@import", html) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_is_shown_and_does_nothing(
    case_of: CaseOf, statements: dict[str, Statement], harmless_tags: set[str], text: str
) -> None:
    page = Page(rendered(hostile(case_of, statements, text)))
    assert {tag for tag, _ in page.elements} == harmless_tags
    assert [a for _, a in page.elements if any(key.startswith("on") or key == "src" for key in a)] == []
    assert page.open == []
    assert [a for _, a in page.elements if "evil.example" in a.get("style", "")] == []
    assert [letter for part in page.text for letter in part if not letter.isprintable() and letter != "\n"] == []


def test_a_hostile_unit_name_stands_in_the_page_as_text(case_of: CaseOf) -> None:
    name = "<script>alert(1)</script>"
    page = Page(rendered(case_of(findings=(name,), lives=lives(name, name))))
    assert any(name in text for text in page.text)


def test_the_verdict_comes_first_and_in_words(case_of: CaseOf, statements: dict[str, Statement], html: str) -> None:
    text, gates = " ".join(Page(html).text), len(case_of(statements).verdict.gates)
    assert text.index("PASSED") < text.index(f"All {gates} gates hold") < text.index("Gates") < text.index("Provenance")
    del statements["poison"]
    text = " ".join(Page(rendered(case_of(statements))).text)
    assert "5 things stand against this candidate" in text
    assert text.index("record of poison: no record of poison") < text.index("Every gate of")


def test_a_grave_caveat_stands_with_the_verdict(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    holder(statements["evade"])["evasion"]["worst"]["eps-0.1"]["rmse_cycles"] = 99.0
    text = " ".join(Page(rendered(case_of(statements))).text)
    assert text.index("1 grave caveat") < text.index("An attack beats the certificate") < text.index("Every gate of")


def test_every_table_has_a_caption_and_every_figure_an_alternative(html: str) -> None:
    page = Page(html)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("table") == tags.count("caption") > 8
    figures = [a for t, a in page.elements if t == "svg" and a.get("role") == "img"]
    assert len(figures) == tags.count("figure") == 8
    assert min(len(a["aria-label"]) for a in figures) > 40


def test_ids_are_unique_and_every_reference_has_its_target(html: str) -> None:
    page = Page(html)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = {a[key][1:] for _, a in page.elements for key in ("href", "xlink:href") if key in a}
    wanted |= {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", html))
    assert wanted - set(ids) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_errors_and_missed_failures_names_the_windows_of_both(case_of: CaseOf, kind: Kind) -> None:
    """Of the sections on single windows; falsified histories count their failing units in a column."""
    single = [item for item in build_all(case_of(kind=kind)) if item.section.id in ("sensors", "injection", "median")]
    mixed = [t for item in single for t in item.tables if {"RMSE [cycles]", "missed failures"} <= set(t.headers)]
    assert len(mixed) == (3 if kind.startswith("certified") else 2)
    assert all("test windows" in t.caption and "test and validation" in t.caption for t in mixed)


KEY = re.compile(r"\b(?:eps|size|rate|share|k|liars|queries|rounding)-\d[\d.]*|\b\w+_(?:sensors|age|histories|aware)\b")


@pytest.mark.parametrize("kind", KINDS)
def test_no_cell_caption_or_axis_shows_a_key(case_of: CaseOf, kind: Kind) -> None:
    """Keys are for gates, which are shown as code; whoever reads a table reads words."""
    for item in (built for built in build_all(case_of(kind=kind)) if built.section.id not in ("gates", "check")):
        for table in item.tables:
            cells = [table.caption, *table.headers, *(cell for row in table.rows for cell in row)]
            found = [cell for cell in cells if KEY.search(cell) or cell in ("any", "pgd", "strong", "biased")]
            assert found == [], item.section.id
        for figure in item.figures:
            assert KEY.findall(re.sub(r'id="[^"]*"|href="[^"]*"', "", figure.svg)) == []


def test_what_scrolls_sideways_says_so(html: str) -> None:
    """Each region that may be wider than the page has a line that only the style shows, and a shadow at its edges."""
    page = Page(html)
    regions = [a for _, a in page.elements if a.get("class") in ("scroll", "drawing")]
    lines = [a for _, a in page.elements if a.get("class") == "sideways"]
    assert len(regions) == len(lines) > 20
    assert {a["aria-hidden"] for a in lines} == {"true"}
    style = html[html.index("<style>") : html.index("</style>")]
    rule = re.search(r"\.scroll, \.drawing \{([^}]*overflow-x: auto[^}]*)\}", style)
    assert rule
    assert (rule[1].count("no-repeat local"), rule[1].count("no-repeat scroll")) == (2, 2)
    assert re.search(r"\.sideways \{[^}]*height: 0;", style)
    assert "animation-timeline: scroll(inline nearest)" in style


def test_no_figure_has_a_ground_that_would_cover_the_shadow(case_of: CaseOf) -> None:
    for figure in (figure for item in build_all(case_of()) for figure in item.figures):
        ground = re.search(r"<path [^>]*fill: ([^;\"]+)", page.inline(figure))
        assert ground
        assert ground[1] == "none", figure.name


def test_figures_follow_the_readers_colours(html: str) -> None:
    body = html[html.index("</style>") :]
    assert [colour for colour in PALETTE.values() if colour in body] == []
    assert "var(--series-0)" in body


def test_the_same_case_gives_the_same_page_and_figures(case_of: CaseOf, html: str) -> None:
    assert rendered(case_of()) == html
    assert card(case_of()) == card(case_of())


def test_the_only_time_on_the_page_is_the_verdicts(html: str) -> None:
    assert set(re.findall(r"\b20\d\d-\d\d-\d\d[T ][\d:]+", html)) == {"2026-01-02T03:04:05"}


def test_a_page_can_be_made_from_no_evidence_at_all(case_of: CaseOf) -> None:
    page = Page(rendered(case_of({}, estimates=(), history=(), lives=(), findings=(), unsigned=())))
    assert "FAILED" in page.text
    assert page.open == []


def undrawn(built: tuple[Built, ...]) -> tuple[Built, ...]:
    """The sections with the words of each figure in its place: drawing takes most of the time."""

    def words(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        return tuple(
            Text(block.alt)
            if isinstance(block, Figure)
            else replace(block, blocks=words(block.blocks))
            if isinstance(block, Pair | Folded)
            else block
            for block in blocks
        )

    def bare(content: Content) -> Content:
        return replace(content, blocks=words(content.blocks), below=words(content.below))

    return tuple(replace(item, content=bare(item.content)) for item in built)


def _spots(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [spot for key in keys for spot in ((*at, key), *_spots(value[key], (*at, key)))]


ODD = [
    None,
    True,
    "x",
    "",
    -1,
    0,
    1e308,
    -1e308,
    10**400,
    [],
    {},
    [None],
    {"x": None},
    [[]],
    {"eps-x": 1},
    {"": {"": 1}},
]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_no_measure_however_odd_keeps_the_page_from_being_made(case_of: CaseOf, draw: st.DataObject) -> None:
    """A record may be signed and still be nonsense: the verdict must then be readable, not a traceback."""
    statements = build()
    for _ in range(draw.draw(st.integers(1, 3))):
        predicate = statements[draw.draw(st.sampled_from(sorted(statements)))].predicate
        *parents, last = draw.draw(st.sampled_from(_spots(predicate)))
        found: Any = predicate
        for key in parents:
            found = found[key]
        found[last] = copy.deepcopy(draw.draw(st.sampled_from(ODD)))
    built = undrawn(build_all(case := case_of(statements, estimates=(), lives=(), history=())))
    assert "<h1>" in page.render(case, built)
    assert model_card.render(case, built).startswith("---")


@pytest.mark.parametrize("odd", [1e308, -1e308])
def test_no_measure_however_odd_keeps_the_figures_from_being_drawn(
    case_of: CaseOf, statements: dict[str, Statement], odd: Any
) -> None:
    evade, poison = (holder(statements[stage]) for stage in ("evade", "poison"))
    evade["evasion"]["attacks"]["small-changes"]["pgd"]["any"]["eps-0.1"]["rmse_cycles"] = odd
    evade["evasion"]["worst"]["eps-0.1"] = {"rmse_cycles": odd, "missed_failure_share": odd}
    evade["evasion"]["certified"]["eps-0.5"] = {"rmse_cycles": odd, "missed_failure_share": odd}
    evade["owned_sensors"]["pairs"]["a"]["b"] = odd
    poison["attacks"]["backdoor"]["share-0.1"]["undefended"]["rmse_increase_cycles"] = odd
    holder(statements["validate"])["drift_psi"]["flow"] = odd
    case = case_of(statements)
    assert case.measures.faults == {}
    assert [figure.name for item in build_all(case) for figure in item.figures] == list(FIGURES)


def test_digests_of_data_code_policy_and_locks_are_on_the_page(html: str) -> None:
    for name in (
        "data/raw/telemetry.parquet",
        "code",
        "policy",
        "requirements",
        "params.yaml",
        "model/model.safetensors",
    ):
        assert subject(name).sha256 in html


def test_a_bar_puts_the_observed_value_on_its_side_of_the_bound() -> None:
    def centre(observed: float | None) -> tuple[float, float]:
        gate = GateResult("a", "evade", "b", observed, Bound(at_most=10.0), "cycles", "because")
        drawn = page.bar(gate)
        dot, limit = re.search(r'cx="([\d.]+)"', drawn), re.search(r'class="limit" d="M([\d.]+)', drawn)
        assert dot
        assert limit
        return float(dot[1]), float(limit[1])

    assert centre(5.0)[0] < centre(5.0)[1]
    assert centre(20.0)[0] > centre(20.0)[1]
    nothing = GateResult("a", "evade", "b", None, Bound(at_most=10.0), "cycles", "because", "absent")
    assert "circle" not in page.bar(nothing)


FIGURES = ("drift", "predictions", "history", "evasion-rmse", "evasion-missed", "pairs", "lives", "poisoning")


def test_figures_are_whole_svg_files_without_dates_or_programs(case_of: CaseOf) -> None:
    drawn = [figure for item in build_all(case_of()) for figure in item.figures]
    assert tuple(figure.name for figure in drawn) == FIGURES
    for figure in drawn:
        assert figure.svg.startswith("<?xml")
        assert "dc:date" not in figure.svg
        assert "Matplotlib v" not in figure.svg


def test_no_legend_is_wider_than_its_figure(case_of: CaseOf) -> None:
    """A legend wider than its figure is cut at both sides: matplotlib writes places outside of the drawing."""
    for figure in (figure for item in build_all(case_of()) for figure in item.figures):
        width = float(re.search(r'viewBox="0 0 ([\d.]+) ', figure.svg)[1])  # type: ignore[index]
        legend = figure.svg[figure.svg.index('id="legend_1"') :] if 'id="legend_1"' in figure.svg else ""
        places = [float(x) for x in re.findall(r'(?:translate\(| x=")(-?[\d.]+)', legend)]
        assert all(0 <= place <= width - 20 for place in places), figure.name


@pytest.mark.parametrize("kind", KINDS)
def test_every_section_is_on_the_page_of_every_family_once_and_in_order(case_of: CaseOf, kind: Kind) -> None:
    case = case_of(kind=kind)
    drawn = page.render(case, undrawn(build_all(case)))
    ids = [attributes["id"] for tag, attributes in Page(drawn).elements if tag == "section"]
    known = [section.id for section in all_sections()]
    assert ids == [name for name in known if name in ids]
    assert set(known) - set(ids) == (set() if kind.startswith("certified") else {"median"})


def test_neither_template_nor_page_nor_card_names_a_section() -> None:
    folder = Path(page.__file__).parent
    for name in ("report.html.j2", "blocks.html.j2", "page.py", "model_card.py"):
        text = (folder / name).read_text()
        found = [
            s.id for s in all_sections() if re.search(rf"[\"'#]{s.id}[\"']|sections\.{s.id}|import {s.id}\b", text)
        ]
        assert found == [] or (name, found) == ("blocks.html.j2", ["gates"])  # the kind of block, not the section


def test_the_worst_that_nothing_bounds_stands_among_the_first_numbers(html: str) -> None:
    tiles = re.findall(r'<div class="(measured|proved|open)"><dt>(.*?)</dt><dd>(.*?)</dd><dd>(.*?)</dd>', html)
    found = {label: (holds, value) for holds, label, value, _ in tiles}
    assert found["Error if every reading changes by at most 0.1 σ"] == ("proved", "≤ 14.9 cycles")
    assert found["Failing windows hidden if every reading changes by at most 0.1 σ"] == ("proved", "≤ 0.0 %")
    assert found["Failing windows hidden by one sensor under the attacker&#39;s control"] == ("open", "20.0 %")
    assert found["Failing machines hidden by an attacker who knows the guard"] == ("open", "42.0 %")
    assert found["Error added by poisoned telemetry that screening does not notice"] == ("open", "+0.4 cycles")
    assert all(note.endswith("; <b>nothing bounds it</b>") for holds, _, _, note in tiles if holds == "open")
    assert not any("nothing bounds" in note for holds, _, _, note in tiles if holds != "open")


@pytest.mark.parametrize("kind", KINDS)
def test_no_sentence_of_the_page_begins_with_a_small_letter(case_of: CaseOf, kind: Kind) -> None:
    """Two fragments joined by a full stop, such as "No bound. by changes of up to 0.5 σ", are no sentences."""
    case = case_of(kind=kind)
    drawn = page.render(case, undrawn(build_all(case)))
    text = " ".join(re.sub(r"<style.*?</style>", "", drawn, flags=re.S).split())
    text = re.sub(r"</(dd|dt|p|li|td|th|h\d|figcaption|caption|title|div|text)>", "\n", text)
    plain_text = re.sub(r"<[^>]+>", "", text)
    odd = re.findall(r"[^\n]{0,60}[a-zσ%)\d][.!?] +[a-z][^\n]{0,40}", plain_text)
    assert [item for item in odd if not re.search(r"(e\.g|i\.e|vs|cf|al|sec|no|twinseal)\. ", item)] == []


def test_one_n_of_failures_is_on_the_whole_page(case_of: CaseOf, html: str) -> None:
    """The gate `enough-failures`, the accuracy table, the rule of three and the tile count the same units."""
    case, text = case_of(), " ".join(Page(html).text)
    gate = next(gate for gate in case.verdict.gates if gate.name == "enough-failures")
    assert (gate.observed, gate.unit) == (34.0, "units")
    tables = next(item for item in build_all(case) if item.section.id == "accuracy").tables
    failures = next(table for table in tables if "failing units" in table.headers)
    assert {row[failures.headers.index("failing units")] for row in failures.rows} == {"34"}
    assert "No missed failure in 34 failing units still allows" in text
    assert "34 failing units" in next(t for t in text.split("proved, not tested;") if "failing units" in t)


def test_a_label_is_short_printable_and_one_line() -> None:
    assert plain("a\nb\x00c") == "a�b�c"
    assert len(plain("x" * 500)) == 40


def test_a_figure_is_escaped_in_its_alternative_text() -> None:
    svg = '<?xml version="1.0"?><svg viewBox="0 0 1 1"><g id="g"/></svg>'
    figure = Figure("x", lambda: svg, '"><b>', "")
    opening, rest = page.inline(figure).split(">", 1)
    assert (
        opening
        == '<svg role="img" aria-label="&#34;&gt;&lt;b&gt;" viewBox="0 0 1 1" style="--least: 1px; max-width: 1px"'
    )
    assert rest == '<g id="x-g"/></svg>'


def test_text_between_backquotes_is_code_and_nothing_of_it_is_markup() -> None:
    assert page.code("run `twinseal <b>` & `x`") == "run <code>twinseal &lt;b&gt;</code> &amp; <code>x</code>"
    assert page.code("an odd ` stays <i>") == "an odd ` stays &lt;i&gt;"
    assert page.code("a\u202eb") == "a\ufffdb"

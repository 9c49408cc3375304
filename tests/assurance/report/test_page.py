from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from assurance.candidate import build, estimates, lives, subject
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinseal.assurance.case import Case
from twinseal.assurance.gates import Bound, GateResult
from twinseal.assurance.report import model_card, page
from twinseal.assurance.report.figures import PALETTE, Figure, draw, plain
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


def rendered(case: Case) -> str:
    return page.render(case, draw(case))


def hostile(case_of: CaseOf, statements: dict[str, Statement], text: str) -> Case:
    """A case in which everything that comes from outside is `text`."""
    evade = statements["evade"].predicate["twinseal_measures"]
    for item in evade["attacks"]:
        item["name"] = item["name"] + text
        item["threat"] = text
    evade["injection"] = {text: {"rmse_cycles": 1.0, "note": text}}
    evade["flags"] = {"raised": 1, "names": [text], "details": [text]}
    poison = statements["poison"].predicate["twinseal_measures"]
    for item in poison["attacks"]:
        item["name"] = text
    statements["validate"].predicate["twinseal_measures"]["findings_by_rule"] = {text: 1}
    statements["validate"].predicate["warnedTests"] = [text]
    definition = statements["train"].predicate["buildDefinition"]
    definition["externalParameters"] = {text: text}
    definition["internalParameters"] = {"machine": text, "packages": {"torch": text}}
    return case_of(
        statements,
        model_name=text,
        estimates=tuple(replace(item, unit=text) for item in estimates()),
        lives=lives(text, text),
        history=({"epoch": 1.0, f"{text}rmse_cycles": 3.0}, {"epoch": 2.0, f"{text}rmse_cycles": 2.0}),
        findings=(text,),
        unsigned=(text,),
        inputs=(subject(text),),
    )


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
    text = " ".join(Page(html).text)
    assert text.index("PASSED") < text.index("All 20 gates hold") < text.index("Gates") < text.index("Provenance")
    del statements["poison"]
    text = " ".join(Page(rendered(case_of(statements))).text)
    assert "3 things stand against this candidate" in text
    assert text.index("record of poison: no record of poison") < text.index("Every gate of")


def test_a_grave_doubt_stands_with_the_verdict(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    statements["evade"].predicate["twinseal_measures"]["worst"]["eps-0.1"]["rmse_cycles"] = 99.0
    text = " ".join(Page(rendered(case_of(statements))).text)
    assert text.index("1 grave caveat") < text.index("An attack beats the certificate") < text.index("Every gate of")


def test_every_table_has_a_caption_and_every_figure_an_alternative(html: str) -> None:
    page = Page(html)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("table") == tags.count("caption") > 8
    figures = [a for t, a in page.elements if t == "svg" and a.get("role") == "img"]
    assert len(figures) == tags.count("figure") == 7
    assert min(len(a["aria-label"]) for a in figures) > 40


def test_ids_are_unique_and_every_reference_has_its_target(html: str) -> None:
    page = Page(html)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = {a[key][1:] for _, a in page.elements for key in ("href", "xlink:href") if key in a}
    wanted |= {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", html))
    assert wanted - set(ids) == set()


def test_figures_follow_the_readers_colours(html: str) -> None:
    body = html[html.index("</style>") :]
    assert [colour for colour in PALETTE.values() if colour in body] == []
    assert "var(--series-0)" in body


def test_the_same_case_gives_the_same_page_and_figures(case_of: CaseOf, html: str) -> None:
    assert rendered(case_of()) == html
    assert model_card.write(case_of()) == model_card.write(case_of())


def test_the_only_time_on_the_page_is_the_verdicts(html: str) -> None:
    assert set(re.findall(r"\b20\d\d-\d\d-\d\d[T ][\d:]+", html)) == {"2026-01-02T03:04:05"}


def test_a_page_can_be_made_from_no_evidence_at_all(case_of: CaseOf) -> None:
    page = Page(rendered(case_of({}, estimates=(), history=(), lives=(), findings=(), unsigned=())))
    assert "FAILED" in page.text
    assert page.open == []


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
    case = case_of(statements)
    assert "<h1>" in page.render(case, ())
    assert model_card.write(case).startswith("---")


@pytest.mark.parametrize("odd", [None, True, "x", 1e308, -1e308, 10**400, [], {}])
def test_no_measure_however_odd_keeps_the_figures_from_being_drawn(
    case_of: CaseOf, statements: dict[str, Statement], odd: Any
) -> None:
    evade, poison = (statements[stage].predicate["twinseal_measures"] for stage in ("evade", "poison"))
    for item in evade["attacks"]:
        item["rmse_cycles"] = odd
    evade["worst"]["eps-0.1"] = {"rmse_cycles": odd, "missed_failure_share": odd}
    evade["certified"] = odd
    for item in poison["attacks"]:
        item["rmse_increase_cycles"] = item["noticed_share"] = odd
    assert draw(case_of(statements, estimates=(), lives=(), history=()))


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


def test_figures_are_whole_svg_files_without_dates_or_programs(case_of: CaseOf) -> None:
    drawn = draw(case_of())
    names = ("predictions", "history", "lives", "pairs", "evasion-rmse", "evasion-missed", "poisoning")
    assert tuple(figure.name for figure in drawn) == names
    for figure in drawn:
        assert figure.svg.startswith("<?xml")
        assert "dc:date" not in figure.svg
        assert "Matplotlib v" not in figure.svg


def test_a_label_is_short_printable_and_one_line() -> None:
    assert plain("a\nb\x00c") == "a�b�c"
    assert len(plain("x" * 500)) == 40


def test_a_figure_is_escaped_in_its_alternative_text() -> None:
    figure = Figure("x", '<?xml version="1.0"?><svg viewBox="0 0 1 1"><g id="g"/></svg>', '"><b>', "")
    opening, rest = page.inline(figure).split(">", 1)
    assert opening == '<svg role="img" aria-label="&#34;&gt;&lt;b&gt;" viewBox="0 0 1 1"'
    assert rest == '<g id="x-g"/></svg>'

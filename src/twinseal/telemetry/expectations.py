"""Numbers that were counted, judged by Great Expectations. Only this module imports great_expectations.

A fleet has too many rows for it, so the rows are counted elsewhere (`scan`, `drift`), and it judges the counts: a table
of one row, with a column for each rule. It decides what is met, and makes the pages on which people read it.

Rules: a count that is None or NaN is never met. Exceptions of Great Expectations become ours here.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from twinseal.errors import DataError
from twinseal.escaping import html_everywhere
from twinseal.telemetry.data_docs import make_offline

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when it is imported

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports sre_constants, and marshmallow's old names
    warnings.simplefilter("ignore", FutureWarning)  # and PySpark, where that is: see spark_scan
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.render import LegacyRendererType, RenderedStringTemplateContent
    from great_expectations.render.components import LegacyDiagnosticRendererType
    from great_expectations.render.renderer import ExpectationSuitePageRenderer, ValidationResultsPageRenderer
    from great_expectations.render.renderer.renderer import renderer
    from great_expectations.render.view import DefaultJinjaPageView


@dataclass(frozen=True)
class Count:
    """A number of a fleet, and what it must be.

    Attributes:
        name: Of the expectation: a rule, and its channel.
        observed: The number; None if there is none.
        least, most: Its bounds, inclusive; None for none.
        expects: What is expected, in words.
        got: What there is, in words.
    """

    name: str
    observed: float | None
    least: float | None
    most: float | None
    expects: str
    got: str

    @property
    def sentence(self) -> str:
        """The expectation in words, with channel and rule."""
        rule, _, channel = self.name.partition(" ")
        return f"{channel}, {rule}: expected {self.expects}" if channel else f"{rule}: expected {self.expects}"


@dataclass(frozen=True)
class Judgement:
    """What Great Expectations says.

    Attributes:
        broken: Names of the expectations that are not met, could not be evaluated, or gave no result.
        unanswered: Those that gave no result.
        raised: Those that could not be evaluated.
        pages: The Data Docs, file name → HTML.
    """

    broken: frozenset[str]
    unanswered: frozenset[str]
    raised: frozenset[str]
    pages: dict[str, str]


def build_suite(asset: str, counts: Sequence[Count]) -> gx.ExpectationSuite:
    """One expectation for each count, its name in `meta["name"]`."""
    expectations = [
        ExpectCountToBeBetween(
            column=count.name,
            min_value=count.least,
            max_value=count.most,
            sentence=count.sentence,
            got=count.got,
            meta={"name": count.name, "expects": count.expects},
        )
        for count in counts
    ]
    return gx.ExpectationSuite(name=f"{asset} telemetry", expectations=expectations)


def judge(asset: str, counts: Sequence[Count], frame: Any = None) -> Judgement:
    """Let Great Expectations judge the counts.

    Args:
        asset: What the suite is called after.
        counts: What there is, and what must be.
        frame: Where its Spark engine finds the same numbers: a Spark DataFrame of one row, with a column of the name of
            each count; None for its pandas engine.

    Raises:
        DataError: Great Expectations raised an exception.
    """
    suite = build_suite(asset, counts)
    expected = frozenset(count.name for count in counts)
    try:
        batch = _great_expectations_batch(counts) if frame is None else _spark_batch(frame)
        result = batch.validate(suite, result_format="COMPLETE")
        results = {item.expectation_config.meta["name"]: item for item in result.results}
        seen = {name: item.result.get("observed_value") for name, item in results.items()}
        raised = frozenset(name for name, item in results.items() if _has_error(item.exception_info))
        pages = _data_docs(suite, result)
    except Exception as error:  # no exception of Great Expectations leaves this module
        raise DataError(
            f"validation: expected Great Expectations to answer, got {type(error).__name__}: {error}"
        ) from error
    other = [count for count in counts if count.name in seen and not _same(count.observed, seen[count.name])]
    if other:
        told = f"{other[0].observed:g} and {seen[other[0].name]}"
        raise DataError(f"validation: {other[0].name}: expected Great Expectations to see the same count, got {told}")
    return Judgement(
        broken=frozenset(name for name in expected if name not in results or results[name].success is not True),
        unanswered=expected - frozenset(results),
        raised=raised,
        pages=pages,
    )


class ExpectCountToBeBetween(gxe.ExpectColumnMaxToBeBetween):  # type: ignore[misc]  # untyped
    """Expect a count to be within bounds; says in words what was counted."""

    args_keys = ("column", "min_value", "max_value", "sentence", "got")

    sentence: str
    got: str

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)  # type: ignore[untyped-decorator]
    def _prescriptive_renderer(cls, configuration: Any = None, result: Any = None, **_: Any) -> list[Any]:
        words = {"sentence": (configuration or result.expectation_config).kwargs["sentence"]}
        return [RenderedStringTemplateContent(string_template={"template": "$sentence", "params": words})]

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.OBSERVED_VALUE)  # type: ignore[untyped-decorator]
    def _diagnostic_observed_value_renderer(cls, configuration: Any = None, result: Any = None, **_: Any) -> str:
        got = str((result.expectation_config if result else configuration).kwargs["got"])
        return str(html_everywhere(got))  # it is written into the page as it is, and has names from outside


def _great_expectations_batch(counts: Sequence[Count]) -> Any:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("telemetry").add_dataframe_asset("counts")
    table = pd.DataFrame({count.name: [count.observed] for count in counts}, dtype="float64")
    return asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": table})


def _spark_batch(frame: Any) -> Any:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_spark("telemetry").add_dataframe_asset("counts")
    return asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})


def _same(observed: float | None, seen: Any) -> bool:
    """Whether two counts are one; of what is no number there is nothing to compare."""
    return observed is None or seen is None or not math.isfinite(observed) or float(seen) == observed


def _has_error(info: Any) -> bool:
    """Whether an expectation could not be evaluated; Great Expectations reports this in one of two forms."""
    if not isinstance(info, dict):
        return False
    return bool(info.get("raised_exception")) or any(_has_error(item) for item in info.values())


def _data_docs(suite: Any, result: Any) -> dict[str, str]:
    """The Data Docs: results and suite. The same findings give the same bytes: no times, no random ids."""
    result.meta.update({"run_id": {"run_name": "validate", "run_time": ""}, "validation_time": ""})
    for name in ("batch_markers", "batch_spec"):  # times, and which engine it was
        result.meta.pop(name, None)
    for item in result.results:
        # Great Expectations writes values into its pages as they are.
        item.result, item.exception_info = html_everywhere(item.result), html_everywhere(item.exception_info)
    view = DefaultJinjaPageView()
    return {
        "index.html": make_offline(view.render(ValidationResultsPageRenderer(run_info_at_end=True).render(result))),
        "suite.html": make_offline(view.render(ExpectationSuitePageRenderer().render(suite))),
    }

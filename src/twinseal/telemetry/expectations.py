"""The contract as a suite of Great Expectations, and its application. Only this module imports great_expectations.

The suite is made from the contract, never written by hand. For the fleet as a whole it checks the schema, the types,
that there are rows and units, and drift from the reference. For rows it checks the rules of `screening`: with Great
Expectations' own expectation where there is one, otherwise with one of ours.

Rules: an empty frame passes "not null" and "unique", and NaN passes "between". So rows are counted, and every range has
a rule on missing values beside it. Exceptions of Great Expectations become ours here.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from twinseal.errors import DataError
from twinseal.escaping import html_everywhere
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.data_docs import make_offline
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.reference import Reference, bin_shares, largest_difference, smallest_share, stability_index
from twinseal.telemetry.rules import CHECKS, Mask
from twinseal.telemetry.screening import Finding, Rule, findings, row_rules

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when it is imported

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports sre_constants, and marshmallow's old names
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.core.metric_domain_types import MetricDomainTypes
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation import BatchExpectation, MulticolumnMapExpectation
    from great_expectations.expectations.metrics.map_metric_provider import MulticolumnMapMetricProvider
    from great_expectations.expectations.metrics.map_metric_provider.multicolumn_condition_partial import (
        multicolumn_condition_partial,
    )
    from great_expectations.expectations.metrics.metric_provider import metric_value
    from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
    from great_expectations.render import LegacyRendererType, RenderedStringTemplateContent
    from great_expectations.render.renderer import ExpectationSuitePageRenderer, ValidationResultsPageRenderer
    from great_expectations.render.renderer.renderer import renderer
    from great_expectations.render.view import DefaultJinjaPageView

_TYPES = {"unit": "str", "cycle": "int32", "censored": "bool", "rul": "float32"}


def build_suite(contract: Contract, reference: Reference | None, *, units: int = 1_000) -> gx.ExpectationSuite:
    """The contract as a suite: one expectation for each rule, its name in `meta["name"]`.

    Args:
        contract: What telemetry must be.
        reference: What the fleet is compared with; None leaves drift out.
        units: How many units the fleet has; some rules need a minimum.
    """
    expectations = [*_fleet_expectations(contract), *_row_expectations(contract, units)]
    if reference is not None:
        expectations += _drift_expectations(contract, reference)
    return gx.ExpectationSuite(name=f"{contract.asset} telemetry", expectations=expectations)


@dataclass(frozen=True)
class Outcome:
    """The result of one application of the suite.

    Attributes:
        names: Every expectation of the suite.
        broken: Those that are not met, could not be evaluated, or gave no result.
        row_findings: Findings about rows, by unit.
        fleet_findings: Findings about the fleet as a whole.
        stability: The population stability index of each channel that was compared with a reference.
        pages: The Data Docs, file name → HTML.
    """

    names: frozenset[str]
    broken: frozenset[str]
    row_findings: tuple[Finding, ...]
    fleet_findings: tuple[Finding, ...]
    stability: dict[str, float]
    pages: dict[str, str]


def apply(fleet: Fleet, contract: Contract, reference: Reference | None) -> Outcome:
    """Apply the suite to `fleet`.

    An expectation that gave no result, or could not be evaluated, counts as broken by the fleet as a whole.

    Raises:
        DataError: Great Expectations raised an exception.
    """
    units = len(fleet.units)
    suite = build_suite(contract, reference, units=units)
    try:
        result = _great_expectations_batch(fleet).validate(suite, result_format="COMPLETE")
        results = {item.expectation_config.meta["name"]: item for item in result.results}
        expected = frozenset(item.meta["name"] for item in suite.expectations)
        rows = {name: item.result.pop("unexpected_index_list", None) for name, item in results.items()}
        pages = _data_docs(suite, result)
    except Exception as error:  # no exception of Great Expectations leaves this module
        raise DataError(
            f"validation: expected Great Expectations to answer, got {type(error).__name__}: {error}"
        ) from error
    rules = {_rule_name(rule): rule for rule in row_rules(contract, units=units)}
    by_row: list[Finding] = []
    by_fleet = [_fleet_finding(name, "an answer", None) for name in sorted(expected - set(results))]
    for name, item in results.items():
        if item.success:
            continue
        if name in rules and rows[name] and not _has_error(item.exception_info):
            by_row += _row_findings(fleet, rules[name], rows[name])
        else:
            by_fleet.append(_fleet_finding(name, item.expectation_config.meta.get("expects", name), item))
    return Outcome(
        names=expected,
        broken=frozenset(name for name in expected if name not in results or not results[name].success),
        row_findings=tuple(by_row),
        fleet_findings=tuple(by_fleet),
        stability={
            name.removeprefix("drift "): float(item.result["observed_value"])
            for name, item in results.items()
            if name.startswith("drift ") and "observed_value" in item.result
        },
        pages=pages,
    )


class RuleCondition(MulticolumnMapMetricProvider):  # type: ignore[misc]  # untyped
    """Which rows meet a rule of `twinseal.telemetry.rules`."""

    condition_metric_name = "twinseal.rows.keep_rule"
    condition_domain_keys = ("batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if")
    condition_value_keys = ("rule", "bounds")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column_list: pd.DataFrame, rule: str, bounds: dict[str, Any], **_: Any) -> pd.Series[bool]:  # noqa: N805
        return pd.Series(~CHECKS[rule](column_list, **bounds).broken, index=column_list.index)


class ExpectRowsToKeepRule(MulticolumnMapExpectation):  # type: ignore[misc]  # untyped
    """Expect every row to meet a rule about itself and the earlier rows of the same unit."""

    map_metric = "twinseal.rows.keep_rule"
    success_keys = ("rule", "bounds", "mostly")
    args_keys = ("column_list", "rule", "bounds")

    channel: str
    rule: str
    bounds: dict[str, Any]
    expects: str

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)  # type: ignore[untyped-decorator]
    def _prescriptive_renderer(cls, configuration: Any = None, result: Any = None, **_: Any) -> list[Any]:
        return _rule_sentence(configuration, result, "$channel, $rule: expected $expects")


class BinShares(TableMetricProvider):  # type: ignore[misc]  # untyped
    """The share of a column's values in each bin of the reference, and how many units they come from."""

    metric_name = "twinseal.column.bin_shares"
    value_keys = ("column", "edges")

    @metric_value(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(
        cls,  # noqa: N805
        execution_engine: Any,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        **_: Any,
    ) -> tuple[tuple[float, ...], int]:
        frame, _, _ = execution_engine.get_compute_domain(metric_domain_kwargs, domain_type=MetricDomainTypes.TABLE)
        values = frame[metric_value_kwargs["column"]].to_numpy(dtype=np.float64)
        return bin_shares(values, metric_value_kwargs["edges"]), int(frame["unit"].nunique())


class ExpectColumnStabilityIndexToBeAtMost(BatchExpectation):  # type: ignore[misc]  # untyped
    """Expect a column to fill the bins of the reference as the reference did."""

    metric_dependencies = ("twinseal.column.bin_shares",)
    success_keys = ("column", "edges", "shares", "reference_units", "most")
    args_keys = ("column", "edges", "shares", "reference_units", "most")

    column: str
    edges: list[float]
    shares: list[float]
    reference_units: int
    most: float

    def _validate(self, metrics: dict[str, Any], **_: Any) -> dict[str, Any]:
        shares, units = metrics["twinseal.column.bin_shares"]
        index = stability_index(self.shares, shares, smallest=smallest_share(self.reference_units, units))
        details = {"largest_difference": largest_difference(self.edges, self.shares, shares)}
        return {"success": bool(index <= self.most), "result": {"observed_value": index, "details": details}}

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)  # type: ignore[untyped-decorator]
    def _prescriptive_renderer(cls, configuration: Any = None, result: Any = None, **_: Any) -> list[Any]:
        return _rule_sentence(configuration, result, "$column, drift: expected a stability index of at most $most")


def _rule_sentence(configuration: Any, result: Any, template: str) -> list[Any]:
    """The sentence in the Data Docs for an expectation of ours."""
    known = (configuration or result.expectation_config).kwargs
    words = {name: str(known.get(name, "")) for name in ("channel", "rule", "expects", "column", "most")}
    return [RenderedStringTemplateContent(string_template={"template": template, "params": words})]


def _fleet_expectations(contract: Contract) -> list[Any]:
    columns = list(contract.columns)
    return [
        gxe.ExpectTableColumnsToMatchOrderedList(
            column_list=columns, meta={"name": "schema", "expects": "the columns of the contract"}
        ),
        gxe.ExpectTableRowCountToBeBetween(min_value=1, meta={"name": "rows", "expects": "one row or more"}),
        gxe.ExpectColumnUniqueValueCountToBeBetween(
            column="unit", min_value=2, meta={"name": "units", "expects": "two units or more"}
        ),
        *(
            gxe.ExpectColumnValuesToBeOfType(
                column=name, type_=_TYPES.get(name, "float32"), meta={"name": f"type {name}"}
            )
            for name in columns
        ),
    ]


def _row_expectations(contract: Contract, units: int) -> list[Any]:
    return [_row_expectation(rule) for rule in row_rules(contract, units=units)]


def _row_expectation(rule: Rule) -> Any:
    """Great Expectations' own expectation if there is one; otherwise ours."""
    meta = {"name": _rule_name(rule), "expects": rule.expects}
    if rule.name == "unique":
        return gxe.ExpectCompoundColumnsToBeUnique(column_list=list(rule.columns), ignore_row_if="never", meta=meta)
    if rule.name == "missing" and rule.bounds["share"] == 0:
        return gxe.ExpectColumnValuesToNotBeNull(column=rule.channel, meta=meta)
    if rule.name == "range":
        least, most = rule.bounds["minimum"], rule.bounds["maximum"]
        return gxe.ExpectColumnValuesToBeBetween(column=rule.channel, min_value=least, max_value=most, meta=meta)
    return ExpectRowsToKeepRule(
        column_list=list(rule.columns),
        ignore_row_if="never",
        channel=rule.channel,
        rule=rule.name,
        bounds=dict(rule.bounds),
        expects=rule.expects,
        meta=meta,
    )


def _rule_name(rule: Rule) -> str:
    return f"{rule.name} {rule.channel}"


def _drift_expectations(contract: Contract, reference: Reference) -> list[Any]:
    drift, expectations = contract.drift, []
    for name, known in reference.channels.items():
        shift = drift.max_mean_shift_sigma * reference.spread(name)
        least, most = known.mean - shift, known.mean + shift
        mean = {"name": f"drift-mean {name}", "expects": f"a mean of {least:.7g} … {most:.7g}, as in the reference"}
        index = {"name": f"drift {name}", "expects": f"a stability index of at most {drift.max_psi:g}"}
        expectations += [
            gxe.ExpectColumnMeanToBeBetween(column=name, min_value=least, max_value=most, meta=mean),
            ExpectColumnStabilityIndexToBeAtMost(
                column=name,
                edges=list(known.edges),
                shares=list(known.shares),
                reference_units=reference.units,
                most=drift.max_psi,
                meta=index,
            ),
        ]
    return expectations


def _great_expectations_batch(fleet: Fleet) -> Any:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("telemetry").add_dataframe_asset("fleet")
    return asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": fleet.table})


def _has_error(info: Any) -> bool:
    """Whether an expectation could not be evaluated; Great Expectations reports this in one of two forms."""
    if not isinstance(info, dict):
        return False
    return bool(info.get("raised_exception")) or any(_has_error(item) for item in info.values())


def _row_findings(fleet: Fleet, rule: Rule, rows: list[int]) -> tuple[Finding, ...]:
    broken: Mask = np.zeros(len(fleet), dtype=bool)
    broken[np.asarray(rows, dtype=np.intp)] = True
    return findings(fleet.table, rule, rule.check(fleet.table), broken)


def _fleet_finding(name: str, expects: str, item: Any) -> Finding:
    observed = item.result.get("observed_value") if item is not None else None
    number = float(observed) if isinstance(observed, int | float | np.floating) and np.isfinite(observed) else None
    if item is not None and _has_error(item.exception_info):
        expects = f"{expects} (it could not be evaluated)"
    elif item is not None and "largest_difference" in item.result.get("details", {}):
        expects = f"{expects} ({item.result['details']['largest_difference']})"
    rule, _, channel = name.partition(" ")
    return Finding("", 0, 0, channel or "all", rule, number, expects, 0)


def _data_docs(suite: Any, result: Any) -> dict[str, str]:
    """The Data Docs: results and suite. The same findings give the same bytes: no times, no random ids."""
    result.meta.update({"run_id": {"run_name": "validate", "run_time": ""}, "validation_time": ""})
    result.meta.pop("batch_markers", None)
    for item in result.results:
        for every_row in ("unexpected_list", "unexpected_index_query"):  # as long as the fleet
            item.result.pop(every_row, None)
        # Great Expectations writes values into its pages as they are.
        item.result, item.exception_info = html_everywhere(item.result), html_everywhere(item.exception_info)
    view = DefaultJinjaPageView()
    return {
        "index.html": make_offline(view.render(ValidationResultsPageRenderer(run_info_at_end=True).render(result))),
        "suite.html": make_offline(view.render(ExpectationSuitePageRenderer().render(suite))),
    }

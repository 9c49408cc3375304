"""Failures, replacements, errors and machines beside telemetry: the layout of most plants and public sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinseal.config import parse
from twinseal.errors import ConfigError, DataError
from twinseal.sources.data_params import DataParams, open_source
from twinseal.sources.source import Source
from twinseal.telemetry.contract import Contract

HOURS = [f"2024-01-01 {hour:02d}:00" for hour in range(24)]
HOURLY: dict[str, Any] = {
    "unit": "machineID",
    "time": {"column": "datetime", "cycle": "1h"},
    "settings": {"load": "load"},
    "sensors": {"heat": "heat", "glow": "glow"},
    "files": ["telemetry.csv"],
}
FAILURES = {"path": "failures.csv", "unit": "machineID", "time": "datetime"}
MAINTENANCE = {"path": "maint.csv", "unit": "machineID", "time": "datetime"}


def plant(
    folder: Path, *, failures: str, maint: str = "", errors: str = "", machines: str = "", hours: int = 24
) -> Path:
    rows = [f"{stamp},{unit},0.5,300,310" for unit in (1, 2) for stamp in HOURS[:hours]]
    (folder / "telemetry.csv").write_text("datetime,machineID,load,heat,glow\n" + "\n".join(rows) + "\n")
    (folder / "failures.csv").write_text("datetime,machineID,failure\n" + failures)
    (folder / "maint.csv").write_text("datetime,machineID,comp\n" + maint)
    (folder / "errors.csv").write_text("datetime,machineID,errorID\n" + errors)
    (folder / "machines.csv").write_text("machineID,model,age\n" + machines)
    return folder


def source(path: Path, oven: Contract, events: dict[str, Any], **mapping: Any) -> Source:
    table = HOURLY | {"events": events} | mapping
    params = {"source": "table", "asset": "oven", "path": str(path), "table": table}
    return open_source(parse(DataParams, params, "data"), oven)


def lives(found: Source) -> dict[str, tuple[int, float, bool]]:
    """Life → rows, remaining cycles at its last row, censored."""
    return {
        life.unit: (len(life.frame), float(life.rul_cycles[-1]), life.censored) for life in found.read().trajectories()
    }


def test_failures_cut_histories_into_lives_and_label_them(tmp_path: Path, oven: Contract) -> None:
    plant(tmp_path, failures="2024-01-01 09:00,1,comp1\n2024-01-01 19:00,1,comp2\n")
    found = source(tmp_path, oven, {"failures": FAILURES})
    cut = lives(found)
    assert {"1": (10, 0, False), "1#2": (10, 0, False)}.items() <= cut.items()
    assert (4, True, True) == (cut["1#3"][0], np.isnan(cut["1#3"][1]), cut["1#3"][2])
    assert (24, True) == (cut["2"][0], cut["2"][2])
    assert list(range(1, 11)) == found.read().trajectory("1#2").frame["cycle"].tolist()
    assert list(range(9, -1, -1)) == found.read().trajectory("1#2").rul_cycles.tolist()
    (said,) = [remark for remark in found.remarks() if "lives" in remark]
    assert said.startswith("4 lives of 2 machines: 2 end in a failure, 0 in a replacement, 2 run on")


def test_only_the_failures_of_one_part_count(tmp_path: Path, oven: Contract) -> None:
    plant(tmp_path, failures="2024-01-01 09:00,1,comp1\n2024-01-01 19:00,1,comp2\n")
    found = source(tmp_path, oven, {"failures": FAILURES | {"only": {"failure": ["comp2"]}}})
    assert (20, 0, False) == lives(found)["1"]
    nothing = source(tmp_path, oven, {"failures": FAILURES | {"only": {"failure": ["Comp2"]}}})
    assert any("no row of it counts as failure: are the words under `only` right?" in s for s in nothing.remarks())


def test_a_replacement_ends_a_life_whose_failure_nobody_saw(tmp_path: Path, oven: Contract) -> None:
    plant(tmp_path, failures="2024-01-01 19:00,1,comp1\n", maint="2024-01-01 09:00,1,comp1\n2024-01-01 19:00,1,comp1\n")
    cut = lives(source(tmp_path, oven, {"failures": FAILURES, "replacements": MAINTENANCE}))
    assert (10, True, True) == (cut["1"][0], np.isnan(cut["1"][1]), cut["1"][2])
    assert (10, 0, False) == cut["1#2"], "a replacement at the time of the failure is its repair"
    assert {"1", "1#2", "1#3", "2"} == set(cut)


def test_a_failure_after_the_last_row_leaves_a_cut_history_with_a_known_label(tmp_path: Path, oven: Contract) -> None:
    plant(tmp_path, failures="2024-01-01 14:30,1,comp1\n", hours=10)
    assert (10, 5, True) == lives(source(tmp_path, oven, {"failures": FAILURES}))["1"]
    by_row = source(tmp_path, oven, {"failures": FAILURES}, time={"column": "datetime"})
    assert (10, 5, True) == lives(by_row)["1"]


@pytest.mark.parametrize(
    ("failure", "ends"), [("09:59", (10, 0, False)), ("10:59", (10, 0, False)), ("11:00", (10, 2, True))]
)
def test_a_failure_right_after_the_last_row_is_that_rows(
    tmp_path: Path, oven: Contract, failure: str, ends: tuple[int, float, bool]
) -> None:
    plant(tmp_path, failures=f"2024-01-01 {failure},1,comp1\n", hours=10)
    assert ends == lives(source(tmp_path, oven, {"failures": FAILURES}))["1"]


def test_daily_cycles_count_the_day_of_the_failure(tmp_path: Path, oven: Contract) -> None:
    rows = [f"2024-01-0{day} {hour:02d}:00,1,0.5,{300 + day},310" for day in range(1, 6) for hour in (0, 8, 16)]
    plant(tmp_path, failures="2024-01-04 09:00,1,comp1\n", errors="2024-01-02 07:00,1,e1\n2024-01-02 07:30,1,e1\n")
    (tmp_path / "telemetry.csv").write_text("datetime,machineID,load,heat,glow\n" + "\n".join(rows) + "\n")
    daily = {"column": "datetime", "cycle": "1d", "gather": "mean"}
    found = source(tmp_path, oven, {"failures": FAILURES}, time=daily)
    assert [3, 2, 1, 0] == found.read().trajectory("1").rul_cycles.tolist()


def test_events_of_a_cycle_are_counted_and_machines_have_settings(tmp_path: Path, oven: Contract) -> None:
    errors = "2024-01-01 03:00,1,e1\n2024-01-01 03:20,1,e1\n2024-01-01 03:40,1,e1\n2024-01-01 03:00,2,e2\n"
    plant(tmp_path, failures="2024-01-01 09:00,1,comp1\n", errors=errors, machines="1,A,0.25\n2,B,0.75\n")
    counts = {"path": "errors.csv", "unit": "machineID", "time": "datetime", "only": {"errorID": ["e1"]}}
    machines = {"path": "machines.csv", "unit": "machineID", "settings": {"age": "load"}}
    events = {"failures": FAILURES, "counts": {"glow": counts}, "machines": machines}
    found = source(tmp_path, oven, events, settings={}, sensors={"heat": "heat"})
    fleet = found.read()
    assert [0, 0, 0, 1, 2, 0, 0, 0, 0, 0] == fleet.trajectory("1").frame["glow"].tolist()
    assert 0 == fleet.trajectory("2").frame["glow"].sum()
    assert ([0.25], [0.75]) == tuple(fleet.trajectory(unit).frame["load"].unique().tolist() for unit in ("1", "2"))
    names = ["errors.csv", "failures.csv", "machines.csv", "telemetry.csv"]
    assert names == [subject.name for subject in found.origin()]
    gathered = source(
        tmp_path, oven, events, settings={}, sensors={"heat": "heat"},
        time={"column": "datetime", "cycle": "6h", "gather": "mean"},
    )  # fmt: skip
    assert 3 == gathered.read().trajectory("1").frame["glow"].sum()
    mapping = gathered.mapping()
    assert mapping is not None
    assert ("glow",) == mapping.sums, "the twin adds them up too"


def test_an_error_right_before_the_failure_is_of_the_life_that_ended(tmp_path: Path, oven: Contract) -> None:
    errors = "2024-01-01 09:10,1,e1\n2024-01-01 09:25,1,e1\n2024-01-01 09:40,1,e1\n2024-01-01 23:30,2,e1\n"
    plant(tmp_path, failures="2024-01-01 09:30,1,comp1\n", errors=errors)
    counts = {"path": "errors.csv", "unit": "machineID", "time": "datetime"}
    events = {"failures": FAILURES, "counts": {"glow": counts}}
    fleet = source(tmp_path, oven, events, sensors={"heat": "heat"}).read()
    assert [0] * 9 + [2] == fleet.trajectory("1").frame["glow"].tolist()
    assert [1] + [0] * 13 == fleet.trajectory("1#2").frame["glow"].tolist()
    assert 0 == fleet.trajectory("2").frame["glow"].sum()


def test_events_may_be_told_in_cycles(tmp_path: Path, oven: Contract) -> None:
    (tmp_path / "telemetry.csv").write_text(
        "machineID,n,load,heat,glow\n" + "".join(f"1,{cycle},0.5,300,310\n" for cycle in range(1, 11))
    )
    (tmp_path / "failures.csv").write_text("machineID,n\n1,6\n1,12\n")
    failures = {"path": "failures.csv", "unit": "machineID", "time": "n"}
    found = source(tmp_path, oven, {"failures": failures}, time=None, cycle="n")
    assert {"1": (6, 0, False), "1#2": (4, 2, True)} == lives(found)
    assert [1, 2, 3, 4] == found.read().trajectory("1#2").frame["cycle"].tolist()


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"failures": "yesterday,1,c\n"}, r"failures\.csv, line 2, datetime: expected a time like .* got 'yesterday'"),
        ({"failures": "2024-01-01 09:00,,c\n"}, r"failures\.csv, line 2, machineID: expected the name of a machine"),
        ({"failures": "2024-01-01 09:00,1\n"}, r"failures\.csv, line 2: expected 3 cells"),
        ({"failures": "", "machines": "1,A,old\n2,B,1\n"}, r"machines\.csv, line 2, unit 1, age: expected a number"),
        ({"failures": "", "machines": "1,A,1\n1,A,2\n2,B,1\n"}, r"machines\.csv, line 3, .*expected one row for each"),
        ({"failures": "", "machines": "1,A,1\n"}, r"machines\.csv: expected a row for each machine .* got none for 2"),
    ],
)
def test_a_table_of_events_that_cannot_be_read_is_refused(
    tmp_path: Path, oven: Contract, files: dict[str, str], complaint: str
) -> None:
    plant(tmp_path, **files)
    events: dict[str, Any] = {"failures": FAILURES}
    mapping = {}
    if "machines" in files:
        events["machines"] = {"path": "machines.csv", "unit": "machineID", "settings": {"age": "load"}}
        mapping = {"settings": {}}
    with pytest.raises(DataError, match=complaint):
        source(tmp_path, oven, events, **mapping).read()


@pytest.mark.parametrize(
    ("events", "mapping", "complaint"),
    [
        ({"failures": FAILURES}, {"ends_in_failure": True}, "expected events.failures, rul or ends_in_failure"),
        ({"replacements": MAINTENANCE}, {}, "events.replacements: expected events.failures beside it"),
        ({"failures": FAILURES | {"path": "../failures.csv"}}, {}, "expected paths below data.path"),
        ({"failures": FAILURES, "counts": {"smoke": FAILURES}}, {}, "expected channels of the contract"),
        ({"failures": FAILURES, "counts": {"glow": FAILURES}}, {}, "data.table.sensors"),
    ],
)
def test_events_that_mean_nothing_are_refused(
    tmp_path: Path, oven: Contract, events: dict[str, Any], mapping: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        source(plant(tmp_path, failures=""), oven, events, **mapping)


def test_events_of_unknown_machines_are_said_and_an_absent_table_is_named(tmp_path: Path, oven: Contract) -> None:
    plant(tmp_path, failures="2024-01-01 09:00,1,c\n2024-01-01 09:00,77,c\n")
    found = source(tmp_path, oven, {"failures": FAILURES})
    assert "failures.csv: events of 1 machines without telemetry: 77" in found.remarks()
    (tmp_path / "failures.csv").unlink()
    with pytest.raises((ConfigError, DataError, OSError), match=r"failures\.csv"):
        source(tmp_path, oven, {"failures": FAILURES}).read()


def test_two_kinds_of_errors_at_one_time_are_two_and_older_ones_none(tmp_path: Path, oven: Contract) -> None:
    errors = ["2024-01-01 02:30,1,e1", "2024-01-01 02:30,1,e2", "2024-01-01 02:30,1,e2", "2019-01-01 00:00,1,e1"]
    plant(tmp_path, failures="", errors="\n".join(errors) + "\n")
    counts = {"path": "errors.csv", "unit": "machineID", "time": "datetime", "only": {"errorID": ["e1", "e2"]}}
    found = source(tmp_path, oven, {"counts": {"glow": counts}}, sensors={"heat": "heat"})
    assert [0, 0, 0, 2, 0] == found.read().trajectory("1").frame["glow"].tolist()[:5]
    assert any("errors.csv: 1 events before the first row of their machine" in said for said in found.remarks())


def test_a_machine_that_is_called_like_a_life_of_another_is_refused(tmp_path: Path, oven: Contract) -> None:
    plant(tmp_path, failures="2024-01-01 09:00,1,comp1\n")
    with (tmp_path / "telemetry.csv").open("a") as stream:
        stream.write("2024-02-01 00:00,1#2,0.5,300,310\n")
    with pytest.raises(DataError, match="unit 1#2: expected a name that no life of another machine gets"):
        source(tmp_path, oven, {"failures": FAILURES}).read()


@pytest.mark.parametrize("cycle", ["inf", "2.5"])
def test_a_failure_in_no_whole_cycle_is_refused(tmp_path: Path, oven: Contract, cycle: str) -> None:
    (tmp_path / "telemetry.csv").write_text("machineID,n,load,heat,glow\n1,1,0.5,300,310\n1,2,0.5,300,310\n")
    (tmp_path / "failures.csv").write_text(f"machineID,n\n1,{cycle}\n")
    events = {"failures": {"path": "failures.csv", "unit": "machineID", "time": "n"}}
    with pytest.raises(DataError, match=rf"failures.csv, line 2, n: expected a cycle, got '{cycle}'"):
        source(tmp_path, oven, events, time=None, cycle="n").read()


STARTS = {"time": {"column": "datetime", "cycle": "start", "running": "load", "above": 0.1, "gather": "mean"}}


def starting(folder: Path, runs: dict[int, str], **tables: str) -> Path:
    """Machines by the hours of a day: `x` where one runs, `.` where it stands, a space where there is no row."""
    plant(folder, **{"failures": "", **tables})
    rows = [
        f"{HOURS[hour]},{unit},{0.5 if sign == 'x' else 0.0},300,310"
        for unit, signs in runs.items()
        for hour, sign in enumerate(signs)
        if sign != " "
    ]
    (folder / "telemetry.csv").write_text("datetime,machineID,load,heat,glow\n" + "\n".join(rows) + "\n")
    return folder


@pytest.mark.parametrize("runs", ["xx..xx..xx....x.xx..x...", "xx. xx. xx.   x.xx. x.  "])
def test_an_event_while_a_machine_stands_counts_in_the_next_run_of_its_life_or_the_last(
    tmp_path: Path, oven: Contract, runs: str
) -> None:
    at = "".join(f"2024-01-01 {hour},1,e\n" for hour in ("01:30", "02:30", "06:30", "11:30", "14:30", "20:30"))
    starting(tmp_path, {1: runs, 2: "x" * 24}, failures="2024-01-01 12:30,1,c\n", errors=at)
    counts = {"glow": {"path": "errors.csv", "unit": "machineID", "time": "datetime"}}
    found = source(tmp_path, oven, {"failures": FAILURES, "counts": counts}, **STARTS, sensors={"heat": "heat"})
    fleet = found.read()
    assert [0, 2, 2] == fleet.trajectory("1").frame["glow"].tolist()
    assert [0, 1, 1] == fleet.trajectory("1#2").frame["glow"].tolist()
    assert not any("not counted" in said for said in found.remarks())


@pytest.mark.parametrize("runs", ["x.x.x.........x.x.x.x.x.", "x.x.x         x.x.x.x.x."])
def test_a_failure_while_a_machine_stands_ends_the_life_at_its_last_run(
    tmp_path: Path, oven: Contract, runs: str
) -> None:
    starting(tmp_path, {1: runs, 2: "x" * 24}, failures="2024-01-01 12:30,1,c\n")
    found = source(tmp_path, oven, {"failures": FAILURES}, **STARTS)
    assert (3, 0, False) == lives(found)["1"]
    assert [2, 1, 0] == found.read().trajectory("1").rul_cycles.tolist()
    assert [1, 2, 3] == found.read().trajectory("1").frame["cycle"].tolist()


def test_starts_after_the_telemetry_of_a_machine_stopped_are_the_usual_ones(tmp_path: Path, oven: Contract) -> None:
    starting(tmp_path, {1: "x.x.x.", 2: "x." * 12}, failures="2024-01-01 13:00,1,c\n")
    found = source(tmp_path, oven, {"failures": FAILURES}, **STARTS)
    assert (3, 4, True) == lives(found)["1"]  # it was seen to stand until 05:00; two hours from run to run


def test_what_ends_no_life_and_who_never_runs_is_said_with_numbers(tmp_path: Path, oven: Contract) -> None:
    failures, replaced = "2024-01-01 06:20,1,c\n2024-01-01 06:30,1,c\n", "2023-12-01 06:00,1,c\n"
    starting(tmp_path, {1: "..x.x.x...x.x.x", 2: "." * 24, 3: "x.x.x"}, failures=failures, maint=replaced)
    found = source(tmp_path, oven, {"failures": FAILURES, "replacements": MAINTENANCE}, **STARTS)
    assert {"1", "1#2", "3"} == set(lives(found))
    said = " | ".join(found.remarks())
    assert "1 events of failure end no life" in said and "1 events of replacement end no life" in said
    assert "1 units run in no row, and were left out: 2" in said


def test_events_after_the_last_row_of_a_life_that_runs_on_are_said(tmp_path: Path, oven: Contract) -> None:
    plant(tmp_path, failures="", errors="2024-01-01 09:30,1,e\n2024-01-01 23:30,1,e\n2024-01-02 09:30,1,e\n")
    counts = {"glow": {"path": "errors.csv", "unit": "machineID", "time": "datetime"}}
    found = source(tmp_path, oven, {"counts": counts}, sensors={"heat": "heat"})
    assert 1 == found.read().trajectory("1").frame["glow"].sum()
    assert "errors.csv: 2 events after the last row of their machine are not counted" in found.remarks()


def test_a_channel_that_adds_up_keeps_what_was_read_while_the_machine_stood(tmp_path: Path, oven: Contract) -> None:
    starting(tmp_path, {1: ".x..x."})
    found = source(tmp_path, oven, {}, **STARTS, sums=["heat"])
    assert [600, 1200] == found.read().trajectory("1").frame["heat"].tolist()

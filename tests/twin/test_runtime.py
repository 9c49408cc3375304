from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.twin.deployment import CHANNELS, MODEL, NOW, WINDOW, Deployment
from tests.twin.one_by_one import alike
from twinseal.prognostics.checkpoint import read_model
from twinseal.prognostics.ensemble import Ensemble, Networks, networks_of
from twinseal.trust.life_acts import Act
from twinseal.twin.admit import VerifiedModel
from twinseal.twin.byte_sources import DirectorySource
from twinseal.twin.pull import pull
from twinseal.twin.runtime import Prediction, Runtime, UnverifiedRuntime, run, run_batches


@pytest.fixture(scope="module")
def verified(first: Path, tmp_path_factory: pytest.TempPathFactory) -> VerifiedModel:
    deployment = Deployment(first)
    state = tmp_path_factory.mktemp("twin")
    return pull(DirectorySource(deployment.mirror), deployment.anchor, MODEL, state, NOW).model


def row(cycle: Any, unit: Any = "pump-1", **changes: Any) -> dict[str, Any]:
    values = {name: 5.0 + 0.1 * math.sin(float(index)) for index, name in enumerate(CHANNELS)}
    return {"unit": unit, "cycle": cycle} | values | changes


def test_each_row_gets_the_models_answer_on_its_window(verified: VerifiedModel) -> None:
    rows = [row(cycle, speed=5.0 + 0.1 * cycle) for cycle in range(1, 10)]
    predictions = list(run(verified, rows))
    for index, prediction in enumerate(predictions):
        window = np.array([[r[name] for name in CHANNELS] for r in rows[max(0, index + 1 - WINDOW) : index + 1]])
        assert prediction.rul_cycles == verified.model.predict(window, prediction.cycle)
    assert [p.cycle for p in predictions] == list(range(1, 10))
    assert [p.readings for p in predictions] == ["degraded"] * 2 + ["ok"] * 7
    assert predictions[0].advice.endswith("a history of 1 cycles, fewer than 3")


def test_frame_and_rows_give_the_same(verified: VerifiedModel) -> None:
    rows = [row(cycle, unit, flow=5.0 + cycle / 10) for cycle in range(1, 8) for unit in ("a", "b")]
    assert list(run(verified, pd.DataFrame(rows))) == list(run(verified, rows))


def test_last_only_gives_each_unit_once(verified: VerifiedModel) -> None:
    rows = [row(cycle, unit, flow=5.0 + cycle / 10) for cycle in range(1, 8) for unit in ("a", "b")]
    alike(list(run(verified, rows))[-2:], list(run(verified, rows, last_only=True)))


def test_units_do_not_see_each_other(verified: VerifiedModel) -> None:
    alone = list(run(verified, [row(cycle, "a") for cycle in range(1, 5)]))
    mixed = [r for cycle in range(1, 5) for r in (row(cycle, "a"), row(cycle, "b", flow=9.0))]
    assert [p for p in run(verified, mixed) if p.unit == "a"] == alone


def test_repaired_value_is_said_as_long_as_it_is_in_the_window(verified: VerifiedModel) -> None:
    rows = [row(cycle, **({"heat": 99.0} if cycle == 4 else {})) for cycle in range(1, 4 + WINDOW + 1)]
    predictions = list(run(verified, rows))
    assert [p.readings for p in predictions] == ["degraded"] * 2 + ["ok"] + ["degraded"] * WINDOW + ["ok"]
    assert [p.flagged for p in predictions[2:5]] == [(), ("heat",), ()]
    assert predictions[3].advice.endswith("1 of the last 4 cycles were repaired, now heat (maximum): check the sensor")


def test_too_many_flagged_channels_mean_inspect_now(verified: VerifiedModel) -> None:
    runtime = Runtime(verified)
    runtime.predict(row(1))
    answer = runtime.predict(row(2, heat=99.0, flow=99.0, noise=None))
    assert answer == Prediction(
        "pump-1",
        "pump-1",
        2,
        0.0,
        False,
        0.0,
        0.0,
        "refused",
        ("flow", "heat", "noise"),
        False,
        "inspect now: expected at most 2 faulty, manipulated or missing channels, got 3: flow, heat, noise",
    )
    assert runtime.predict(row(3)).readings == "degraded"


@pytest.mark.parametrize("cycle", [None, "7", 0, -1, 1.5, math.nan, math.inf, True, 2**31, 10**400, [1]])
def test_row_without_a_cycle_is_refused(cycle: Any, verified: VerifiedModel) -> None:
    answer = Runtime(verified).predict(row(cycle))
    assert (answer.readings, answer.cycle, answer.rul_cycles) == ("refused", 0, 0.0)
    assert answer.advice.startswith("inspect now: expected a cycle after 0, got ")


@pytest.mark.parametrize("unit", [None, "", math.nan, 1.5, True, ["a"]])
def test_row_without_a_unit_is_refused(unit: Any, verified: VerifiedModel) -> None:
    answer = Runtime(verified).predict(row(1, unit))
    assert (answer.readings, answer.unit) == ("refused", "")
    assert answer.advice == "inspect now: expected the name of a unit, got none"


def test_row_that_is_no_row_is_refused(verified: VerifiedModel) -> None:
    nothing: Any = [1, 2]
    assert [p.readings for p in run(verified, [nothing, {}])] == ["refused", "refused"]


def three_cycles(verified: VerifiedModel) -> tuple[Runtime, Prediction]:
    runtime = Runtime(verified)
    answers = [runtime.predict(row(cycle, speed=5.0 + cycle / 10)) for cycle in (1, 2, 3)]
    return runtime, answers[-1]


def test_row_that_comes_again_or_late_is_no_alarm_and_changes_nothing(verified: VerifiedModel) -> None:
    runtime, newest = three_cycles(verified)
    again, late = runtime.predict(row(3, speed=5.3)), runtime.predict(row(1))
    said = f"{newest.advice}; the row of cycle"
    assert again == replace(newest, advice=f"{said} 3 came again, and was not used")
    assert late == replace(newest, advice=f"{said} 1 came after that of cycle 3, and was not used")
    other, _ = three_cycles(verified)
    assert runtime.predict(row(4)) == other.predict(row(4))


@pytest.mark.attack(8)
def test_other_readings_under_a_cycle_that_was_seen(verified: VerifiedModel) -> None:
    """A second row of the newest cycle with other readings is sent; it is refused, and does not count."""
    runtime, _ = three_cycles(verified)
    assert runtime.predict(row(3)).advice == "inspect now: expected a cycle after 3, got 3"
    other, _ = three_cycles(verified)
    assert runtime.predict(row(4)) == other.predict(row(4))


@pytest.mark.attack(8)
def test_old_rows_are_played_again(verified: VerifiedModel) -> None:
    """Old rows are sent in place of new ones, so that the estimate stays as it is: after ten, an alarm."""
    runtime, _ = three_cycles(verified)
    answers = [runtime.predict(row(1 + number % 3, speed=5.1 + number % 3 / 10)).readings for number in range(12)]
    assert ["refused"] * 2 == answers[10:]
    assert "refused" not in answers[:10]
    assert runtime.predict(row(4)).readings != "refused"


def aged(verified: VerifiedModel, oldest: int) -> UnverifiedRuntime:
    """A twin whose network knows no machine older than that."""
    plain = networks_of(verified.model.inference).plain
    plain = copy.deepcopy(plain)
    for network in plain.networks:
        network.config = network.config.model_copy(update={"oldest_cycles": oldest})
    return UnverifiedRuntime(replace(verified.model, inference=Networks.of(Ensemble.of(plain.networks)).to_inference()))


def test_attack_of_an_age_that_no_machine_had_in_training_is_refused_and_shuts_nobody_out(
    verified: VerifiedModel,
) -> None:
    """Far beyond the oldest machine a network says anything at all; one such number must not end the history either."""
    runtime, other = aged(verified, 50), aged(verified, 50)
    for cycle in (1, 2, 3):
        assert runtime.predict(row(cycle)) == other.predict(row(cycle))
    answer = runtime.predict(row(1_003))
    assert ("refused", 0.0, 1_003) == (answer.readings, answer.rul_cycles, answer.cycle)
    assert "inspect now: expected an age of at most 50 cycles, as in training, got 1003" == answer.advice
    assert runtime.predict(row(4)) == other.predict(row(4))


def test_names_that_begin_alike_are_not_one_unit(verified: VerifiedModel) -> None:
    runtime, long = Runtime(verified), "x" * 64
    assert long == runtime.predict(row(1, long)).unit
    answer = runtime.predict(row(1, long + "a"))
    assert ("", "inspect now: expected the name of a unit, got none") == (answer.unit, answer.advice)
    assert "refused" != runtime.predict(row(2, long)).readings


def test_numbers_as_a_csv_brings_them_are_understood(verified: VerifiedModel) -> None:
    assert Runtime(verified).predict(row(1.0, 7)).unit == "7"
    assert Runtime(verified).predict(row(np.int64(3), np.int64(7))).cycle == 3


def test_a_missing_cycle_is_held_said_and_spent(verified: VerifiedModel) -> None:
    runtime = Runtime(verified)
    rows = [row(cycle, speed=5.0 + cycle / 10) for cycle in (1, 2, 3, 5)]
    *_, before, answer = [runtime.predict(r) for r in rows]
    held = np.array([[r[name] for name in CHANNELS] for r in (*rows[:3], rows[2], rows[3])])
    assert answer.rul_cycles == min(verified.model.predict(held, 5), before.rul_cycles - 2)
    assert "1 of the last cycles have no usable row; 1 of the last 5 cycles were repaired" in answer.advice


def test_after_a_long_silence_nothing_is_said_until_the_window_is_full_again(verified: VerifiedModel) -> None:
    """The machine wore while nothing was heard of it: a few rows after the silence do not tell how much."""
    runtime = Runtime(verified)
    for cycle in (1, 2, 3, 4):
        runtime.predict(row(cycle))
    answers = [runtime.predict(row(4 + WINDOW + cycle)) for cycle in range(1, WINDOW + 2)]
    assert ["refused"] * (WINDOW - 2) == [answer.readings for answer in answers[: WINDOW - 2]]
    said = f"inspect now: expected at most 1 of the last {WINDOW} cycles without a usable row, got {WINDOW - 1}"
    assert (said, "ok") == (answers[0].advice, answers[-1].readings)


ACT_NEW = Act("new machine", 0, 0)


def told(runtime: Runtime, cycles: Iterable[int], **changes: float) -> list[Prediction]:
    return [runtime.predict(row(cycle, **changes)) for cycle in cycles]


def test_an_overhaul_that_a_commissioner_signed_begins_a_life(verified: VerifiedModel) -> None:
    """Its rows go on with the operating count; what is said is what is said of a new machine."""
    acts = {"pump-1": [ACT_NEW]}
    runtime, fresh = Runtime(verified, acts=acts), Runtime(verified, acts=acts)
    told(runtime, range(1, 9), speed=9.0)
    runtime.use({"pump-1": [ACT_NEW, Act("overhaul", 8, 0)]})
    assert "inspect now: expected a row after the overhaul, got none yet" == next(iter(runtime.predictions())).advice
    after = told(runtime, range(9, 15))
    assert [replace(item, cycle=item.cycle - 8) for item in after] == told(fresh, range(1, 7))
    runtime.use({"pump-1": [ACT_NEW, Act("overhaul", 8, 0)]})  # once more: it is done already
    assert told(runtime, [15])[0].rul_cycles == told(fresh, [7])[0].rul_cycles


def test_another_machine_under_a_retired_name_begins_its_own_life(verified: VerifiedModel) -> None:
    runtime, fresh = (Runtime(verified, acts={"pump-1": [ACT_NEW]}) for _ in range(2))
    told(runtime, range(1, 9), speed=9.0)
    runtime.use({})
    runtime.use({"pump-1": [ACT_NEW, ACT_NEW]})
    assert told(runtime, range(1, 6)) == told(fresh, range(1, 6))


def test_a_count_that_is_signed_again_vouches_for_a_machine_after_the_memory_was_lost(verified: VerifiedModel) -> None:
    acts = {"pump-1": [ACT_NEW]}
    runtime = Runtime(verified, acts=acts, forgotten={"pump-1": 1})
    assert "an unknown machine" in told(runtime, range(40, 46))[-1].advice
    runtime.use({"pump-1": [ACT_NEW, Act("counter replaced", 45, 45)]})
    assert "an unknown machine" not in told(runtime, [46])[0].advice


def test_a_counter_that_was_replaced_opens_no_ledger(verified: VerifiedModel) -> None:
    runtime, other = (Runtime(verified, acts={"pump-1": [ACT_NEW]}) for _ in range(2))
    assert told(runtime, range(1, 9)) == told(other, range(1, 9))
    runtime.use({"pump-1": [ACT_NEW, Act("counter replaced", 0, 8)]})
    after = told(runtime, [1, 2, 3])
    assert [replace(item, cycle=item.cycle + 8) for item in after] == told(other, [9, 10, 11])


@pytest.mark.attack("T")
def test_a_first_row_from_before_a_machine_was_enrolled_ends_nothing(verified: VerifiedModel) -> None:
    """An old row of a machine that was enrolled at a later count: it ended the twin, and each start again."""
    runtime = Runtime(verified, acts={"pump-1": [Act("new machine", 40, 40)]})
    (answer,) = told(runtime, [39])
    assert ("refused", "inspect now: expected a row after cycle 40, got none yet") == (answer.readings, answer.advice)
    assert "refused" != told(runtime, [*range(41, 50)])[-1].readings


def test_an_act_that_lowers_an_age_leaves_the_rows_that_were_heard(verified: VerifiedModel) -> None:
    runtime = Runtime(verified, acts={"pump-1": [ACT_NEW]})
    told(runtime, [*range(1, 9), 60])  # a false count, far ahead
    runtime.use({"pump-1": [ACT_NEW, Act("counter replaced", 9, 9)]})
    told(runtime, [10])
    assert [2] == runtime._units.counts[:1].tolist()


def test_an_unknown_machine_is_never_told_to_be_young(verified: VerifiedModel) -> None:
    runtime, known = Runtime(verified, acts={"pump-2": [ACT_NEW]}), Runtime(verified)
    most = verified.model.life_bounds["plain"].unknown_cycles
    answers, as_known = told(runtime, range(1, 12)), told(known, range(1, 12))
    assert max(item.rul_cycles for item in answers) <= most < min(item.rul_cycles for item in as_known)
    assert not any(item.more for item in answers)
    assert all("an unknown machine: no commissioner has enrolled it" in item.advice for item in answers)
    runtime.use({"pump-1": [ACT_NEW], "pump-2": [ACT_NEW]})  # it goes on, and is vouched for
    assert told(runtime, [12]) == told(known, [12])


@pytest.mark.attack("T")
def test_names_that_nobody_enrolled_take_no_place_of_enrolled_machines(
    verified: VerifiedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows under ever new names fill the twin's places; machines that are enrolled and heard later have theirs."""
    monkeypatch.setattr("twinseal.twin.runtime.MAX_UNITS", 6)
    enrolled = [f"pump-{number}" for number in range(4)]
    runtime = Runtime(verified, acts={unit: [ACT_NEW] for unit in enrolled})
    flood = [runtime.predict(row(1, f"new-{number}")) for number in range(9)]
    assert ["refused"] * 8 == [item.readings for item in flood[1:]]
    assert enrolled == [runtime.predict(row(1, unit)).unit for unit in enrolled]


def test_acts_that_came_while_the_twin_was_off_are_done_in_order(verified: VerifiedModel) -> None:
    acts = {"pump-1": [ACT_NEW, Act("overhaul", 100, 0), Act("counter replaced", 0, 40)]}
    runtime, other = Runtime(verified, acts=acts), Runtime(verified)
    said = told(runtime, range(1, 8))
    expected = told(other, range(41, 48))
    assert [item.rul_cycles for item in said] == [item.rul_cycles for item in expected]


def test_only_a_verified_model_runs(verified: VerifiedModel, first: Path) -> None:
    (folder,) = first.glob("mirror/candidates/*/model")
    raw: Any = read_model(folder)
    with pytest.raises(TypeError, match="expected a VerifiedModel, got Model"):
        next(run(raw, [row(1)]))
    with pytest.raises(TypeError, match=r"made by twinseal\.twin\.admit\.admit alone"):
        VerifiedModel(verified.release, raw, False, None, object())


def test_demo_keys_are_said_to_be_so(verified: VerifiedModel) -> None:
    assert verified.demo


anything = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.none(), max_size=1)
)
wild = st.dictionaries(st.sampled_from(["unit", "cycle", *CHANNELS]), anything)
tame = st.builds(row, st.integers(1, 30), st.sampled_from(["a", "b"]), heat=st.floats(0, 10) | st.none())


@given(rows=st.lists(wild | tame, max_size=12))
def test_whatever_comes_there_is_one_honest_answer_a_row(rows: list[dict[str, Any]], verified: VerifiedModel) -> None:
    answers = list(run(verified, rows))
    assert len(answers) == len(rows)
    for answer in answers:
        assert 0.0 <= answer.rul_cycles <= verified.model.rul_cap_cycles
        assert (answer.readings == "refused") == answer.advice.startswith("inspect now: ")
        assert answer.readings != "refused" or answer.rul_cycles == 0.0


def test_rows_that_come_some_at_a_time_are_answered_in_their_order(verified: VerifiedModel) -> None:
    rows = [row(cycle, unit, flow=5.0 + cycle / 10) for unit in ("a", "b") for cycle in range(1, 8)]
    alike(list(run(verified, rows)), list(run_batches(verified, [rows[:9], [], rows[9:]])))
    last = list(run_batches(verified, [rows[:9], rows[9:]], last_only=True))
    alike(list(run(verified, rows, last_only=True)), last)


def test_rows_are_taken_one_at_a_time(verified: VerifiedModel) -> None:
    taken: list[int] = []

    def stream() -> Iterator[dict[str, Any]]:
        for cycle in range(1, 100):
            taken.append(cycle)
            yield row(cycle)

    next(run(verified, stream()))
    assert taken == [1]

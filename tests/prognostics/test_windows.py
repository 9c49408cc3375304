from __future__ import annotations

import mmap
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.prognostics.conftest import SPLIT
from twinseal.config import parse
from twinseal.digests import sha256_file
from twinseal.errors import ConfigError, DataError, EvidenceError
from twinseal.prognostics import tensors
from twinseal.prognostics.splitting import Split
from twinseal.prognostics.windows import DESCRIPTION, SPLITS, TENSORS, Prepared, PrepareParams, join, prepare
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet

MakeFleet = Callable[..., Fleet]


def _names(prepared: Prepared) -> dict[str, set[str]]:
    return {name: set(getattr(prepared, name).unit_names) for name in SPLITS}


def test_a_unit_is_in_one_split_only_and_all_are_in_some(toy_prepared: Prepared, toy_fleet: Fleet) -> None:
    names = _names(toy_prepared)
    assert set(toy_fleet.units) == set.union(*names.values())
    assert len(toy_fleet.units) == sum(map(len, names.values()))
    assert {"train": 8, "validation": 3, "test": 3} == {split: len(units) for split, units in names.items()}


def test_each_window_is_the_history_before_its_end(toy_prepared: Prepared, toy_fleet: Fleet) -> None:
    windows = toy_prepared.train
    for index in (0, 25, len(windows) - 1):
        unit, cycle = windows.unit_names[windows.units[index]], int(windows.cycles[index])
        history = toy_fleet.trajectory(unit).rows(toy_prepared.channels)[:cycle][-20:]
        expected = toy_prepared.normaliser.apply(history)
        got = windows.batch([index])[0][-len(expected) :]
        np.testing.assert_array_equal(expected, got)


def test_a_young_unit_is_padded_by_what_its_first_rows_are_on_average(toy_prepared: Prepared) -> None:
    first = toy_prepared.train.batch([0])[0]
    assert 10 == toy_prepared.train.cycles[0]  # earlier, its padding would know what is to come
    np.testing.assert_allclose(np.repeat(first[10:].mean(axis=0)[None], 10, axis=0), first[:10], atol=1e-5)


def test_the_context_is_the_age_and_what_the_first_twenty_cycles_said(toy_prepared: Prepared, toy_fleet: Fleet) -> None:
    windows, context = toy_prepared.train, toy_prepared.train.context()
    assert windows.cycles.tolist() == context[:, 0].tolist()
    for index in (0, 100):
        unit = windows.unit_names[windows.units[index]]
        history = toy_fleet.trajectory(unit).rows(toy_prepared.channels)[:20]
        expected = toy_prepared.normaliser.apply(history).mean(axis=0)
        np.testing.assert_allclose(expected, context[index, 1:], atol=1e-5)


def test_remaining_lives_are_capped_and_end_at_zero(toy_prepared: Prepared) -> None:
    assert 40.0 == toy_prepared.train.rul.max()
    last = [toy_prepared.train.rul[toy_prepared.train.units == unit][-1] for unit in range(8)]
    assert [0.0] * 8 == last


def test_the_normaliser_has_seen_training_units_only(toy_fleet: Fleet, toy_contract: Contract) -> None:
    prepared = prepare(toy_fleet, toy_contract, PrepareParams(window=20), SPLIT)
    table = toy_fleet.table.copy()
    strangers = ~table["unit"].isin(prepared.train.unit_names)
    table.loc[strangers, "heat"] += np.float32(50)
    moved = prepare(Fleet(table), toy_contract, PrepareParams(window=20), SPLIT)
    assert prepared.normaliser.mean.tolist() == moved.normaliser.mean.tolist()
    assert prepared.test.rows[:, 1].max() < moved.test.rows[:, 1].max()


def test_without_censored_units_test_units_are_cut_at_random(toy_prepared: Prepared, toy_contract: Contract) -> None:
    assert 3 * 6 == len(toy_prepared.test)
    assert toy_prepared.test.cycles.min() >= toy_contract.min_cycles
    assert len(set(toy_prepared.test.rul.tolist())) > 3


def test_censored_units_of_known_life_are_the_test_by_their_last_window(
    make_fleet: MakeFleet, toy_contract: Contract, toy_params: PrepareParams
) -> None:
    prepared = prepare(make_fleet(14, censored=4), toy_contract, toy_params, SPLIT)
    assert ("unit-10", "unit-11", "unit-12", "unit-13") == prepared.test.unit_names
    assert [25.0] * 4 == prepared.test.rul.tolist()
    assert not {"unit-10", "unit-11"} & (_names(prepared)["train"] | _names(prepared)["validation"])


def test_a_few_censored_units_are_no_test_by_themselves(
    make_fleet: MakeFleet, toy_contract: Contract, toy_params: PrepareParams
) -> None:
    prepared = prepare(make_fleet(14, censored=1), toy_contract, toy_params, SPLIT)
    names = set(prepared.test.unit_names)
    assert len(names) >= 1 + 0.2 * 13 * 0.5
    assert not names & {*prepared.train.unit_names, *prepared.validation.unit_names}


def test_censored_units_of_unknown_life_are_in_no_split(
    make_fleet: MakeFleet, toy_contract: Contract, toy_params: PrepareParams
) -> None:
    fleet = make_fleet(14, censored=4)
    table = fleet.table.copy()
    table.loc[table["censored"], "rul"] = np.float32("nan")
    prepared = prepare(Fleet(table), toy_contract, toy_params, SPLIT)
    assert 10 == sum(map(len, _names(prepared).values()))


def test_an_unknown_life_in_training_is_refused(
    toy_fleet: Fleet, toy_contract: Contract, toy_params: PrepareParams
) -> None:
    table = toy_fleet.table.copy()
    table["rul"] = np.float32("nan")
    with pytest.raises(DataError, match="expected a known RUL at every cycle used"):
        prepare(Fleet(table), toy_contract, toy_params, SPLIT)


def test_too_few_failures_are_refused(make_fleet: MakeFleet, toy_contract: Contract) -> None:
    with pytest.raises(DataError, match="expected at least 4 units that ran to failure, got 3"):
        prepare(make_fleet(3), toy_contract, PrepareParams(window=20), SPLIT)


def test_stride_thins_training_and_keeps_each_failure(toy_fleet: Fleet, toy_contract: Contract) -> None:
    whole = prepare(toy_fleet, toy_contract, PrepareParams(window=20), SPLIT)
    thinned = prepare(toy_fleet, toy_contract, PrepareParams(window=20, stride=5), SPLIT)
    assert len(whole.train) / 6 < len(thinned.train) < len(whole.train) / 4
    assert len(whole.validation) == len(thinned.validation)
    assert len(thinned.train.unit_names) == int((thinned.train.rul == 0).sum())


def test_the_salt_draws_the_split(toy_fleet: Fleet, toy_contract: Contract, toy_params: PrepareParams) -> None:
    one, other = (
        _names(prepare(toy_fleet, toy_contract, toy_params, Split(SPLIT.policy, salt)))["train"] for salt in ("1", "2")
    )
    assert one != other


def test_same_telemetry_same_bytes(
    toy_fleet: Fleet, toy_contract: Contract, toy_params: PrepareParams, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        prepare(toy_fleet, toy_contract, toy_params, SPLIT).write(tmp_path / name)
    for file in (TENSORS, DESCRIPTION):
        assert sha256_file(tmp_path / "one" / file) == sha256_file(tmp_path / "two" / file)


def test_read_gives_what_was_written(toy_prepared: Prepared, tmp_path: Path) -> None:
    toy_prepared.write(tmp_path)
    read = Prepared.read(tmp_path)
    for split in SPLITS:
        expected, got = getattr(toy_prepared, split), getattr(read, split)
        assert expected.unit_names == got.unit_names
        for key in ("rows", "regimes", "ends", "rul", "cycles", "units", "baselines"):
            np.testing.assert_array_equal(getattr(expected, key), getattr(got, key), strict=True)
    assert (toy_prepared.channels, 20, 40.0) == (read.channels, read.window, read.rul_cap_cycles)
    assert toy_prepared.normaliser.std.tolist() == read.normaliser.std.tolist()


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        (TENSORS, lambda data: data[:-1]),
        (TENSORS, lambda data: b""),
        (TENSORS, lambda data: data.replace(b"train.rul", b"train.rub")),
        (DESCRIPTION, lambda data: b"{"),
        (DESCRIPTION, lambda data: b"[]"),
        (DESCRIPTION, lambda data: data.replace(b'"window": 20', b'"window": 90000')),
        (DESCRIPTION, lambda data: data.replace(b'"window": 20', b'"window": 20, "extra": 1')),
        (DESCRIPTION, lambda data: data.replace(b'"train": [', b'"trian": [')),
        (DESCRIPTION, lambda data: data.replace(b'"load",', b"")),
    ],
)
def test_damaged_windows_are_refused(
    toy_prepared: Prepared, tmp_path: Path, file: str, damage: Callable[[bytes], bytes]
) -> None:
    toy_prepared.write(tmp_path)
    path = tmp_path / file
    damaged = damage(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(EvidenceError, match=r"preparation\.json|expected prepared windows") as caught:
        Prepared.read(tmp_path)
    assert "dvc repro prepare" in caught.value.remedy


def test_absent_windows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="expected prepared windows, got FileNotFoundError"):
        Prepared.read(tmp_path)


def test_altered_windows_are_the_same_ones_with_other_readings(toy_prepared: Prepared) -> None:
    source = toy_prepared.test.take(np.array([0, 3, 5]))
    values = source.batch() + np.float32(1)
    altered = source.with_values(values)
    np.testing.assert_array_equal(values, altered.batch())
    np.testing.assert_array_equal(source.context(), altered.context())
    assert (source.rul.tolist(), source.units.tolist()) == (altered.rul.tolist(), altered.units.tolist())


def test_joined_windows_are_the_one_then_the_other(toy_prepared: Prepared) -> None:
    joined = join(toy_prepared.train, toy_prepared.test)
    np.testing.assert_array_equal(
        np.concatenate([toy_prepared.train.batch(), toy_prepared.test.batch()]), joined.batch()
    )
    np.testing.assert_array_equal(toy_prepared.test.context(), joined.context()[len(toy_prepared.train) :])
    expected = [toy_prepared.test.unit_names[unit] for unit in toy_prepared.test.units]
    assert expected == [joined.unit_names[unit] for unit in joined.units[len(toy_prepared.train) :]]


def test_a_part_of_the_windows_may_be_taken_by_mask_slice_or_index(toy_prepared: Prepared) -> None:
    test = toy_prepared.test
    mask = test.rul < 20
    np.testing.assert_array_equal(test.batch()[mask], test.batch(mask))
    np.testing.assert_array_equal(test.batch()[2:5], test.batch(slice(2, 5)))
    np.testing.assert_array_equal(test.batch()[mask], test.take(mask).batch())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ends": np.array([5])}, "one end, rul, cycle and unit a window"),
        ({"rul": np.full(18, np.nan, dtype=np.float32)}, "expected finite float32 rows"),
        ({"rul": np.zeros(18)}, "expected finite float32 rows"),
        ({"baselines": np.zeros((1, 3), dtype=np.float32)}, "a baseline (C,) a unit"),
        ({"regimes": np.zeros(3, dtype=np.int64)}, "expected a regime a row"),
        ({"ends": np.full(18, 10**6)}, "expected every window within the rows"),
        ({"ends": np.full(18, 3)}, "expected every window within the rows"),
        ({"units": np.full(18, 3)}, "expected every window to have a named unit"),
    ],
)
def test_windows_that_make_no_sense_cannot_be_built(
    toy_prepared: Prepared, change: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(toy_prepared.test, **change)


@pytest.mark.parametrize(
    "wrong",
    [{"window": 1}, {"stride": 0}, {"stride": 11}, {"seed": 3}, {"cuts_per_unit": 50}],
)
def test_params_that_cannot_be_obeyed_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"params.yaml: .*{next(iter(wrong))}: (expected|unknown key)"):
        parse(PrepareParams, wrong, "params.yaml: prepare")


def test_of_many_windows_so_many_are_drawn_by_the_salt_from_all_units(toy_prepared: Prepared) -> None:
    few = toy_prepared.learnt(200)
    assert (200, 200) == (len(few.train), len(few.validation.drawn(200, 0)) if len(few.validation) > 200 else 200)
    assert set(np.unique(toy_prepared.train.units)) == set(np.unique(few.train.units))
    assert (np.diff(few.train.ends) > 0).all()
    assert few.train.ends.tolist() == toy_prepared.learnt(200).train.ends.tolist()
    other = replace(toy_prepared, salt="another").learnt(200)
    assert few.train.ends.tolist() != other.train.ends.tolist()
    assert (few.train.rows is toy_prepared.train.rows, few.test is toy_prepared.test) == (True, True)


def test_where_there_are_no_more_windows_all_are_learnt_from(toy_prepared: Prepared) -> None:
    assert toy_prepared.learnt(len(toy_prepared.train)).train is toy_prepared.train


def test_histories_of_some_units_are_those_histories(toy_prepared: Prepared) -> None:
    whole, some = toy_prepared.train.histories(), toy_prepared.train.histories(3, seed=1)
    assert 3 == len(some)
    assert all(any(np.array_equal(rows, other) for other, _ in whole) for rows, _ in some)
    assert len(whole) == len(toy_prepared.train.histories(99))
    again = toy_prepared.train.histories(3, seed=1)
    assert all(np.array_equal(one, other) for (one, _), (other, _) in zip(some, again, strict=True))


@pytest.mark.parametrize("stride", [1, 7])
def test_a_history_ends_with_the_newest_window_of_its_unit(toy_prepared: Prepared, stride: int) -> None:
    windows = toy_prepared.train.take(np.arange(len(toy_prepared.train))[::-stride])  # in any order
    for unit, (rows, regimes) in zip(np.unique(windows.units), windows.histories(), strict=True):
        assert len(rows) == len(regimes) == windows.cycles[windows.units == unit].max()


def test_large_windows_are_mapped_and_give_the_same_network(
    toy_prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_prepared.write(tmp_path)
    read = Prepared.read(tmp_path)
    monkeypatch.setattr(tensors, "IN_MEMORY_BYTES", 0)
    mapped = Prepared.read(tmp_path)
    base: object = mapped.train.rows
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)
    np.testing.assert_array_equal(read.train.batch(), mapped.train.batch())


def test_what_was_read_goes_to_another_process_as_a_path(toy_prepared: Prepared, tmp_path: Path) -> None:
    toy_prepared.write(tmp_path)
    read = Prepared.read(tmp_path)
    assert len(pickle.dumps(read)) < 1_000 < len(pickle.dumps(toy_prepared))
    again = pickle.loads(pickle.dumps(read))
    np.testing.assert_array_equal(read.train.rows, again.train.rows)
    changed = replace(read, train=read.train.take([0]))  # is in no file
    assert 1 == len(pickle.loads(pickle.dumps(changed)).train)


def test_other_windows_in_the_place_of_those_that_were_read_are_refused(toy_prepared: Prepared, tmp_path: Path) -> None:
    toy_prepared.write(tmp_path)
    told = pickle.dumps(Prepared.read(tmp_path))
    replace(toy_prepared, train=toy_prepared.train.take([0, 1])).write(tmp_path)
    with pytest.raises(EvidenceError, match="expected the prepared windows that the stage began with, got others"):
        pickle.loads(told)

"""Poisons: what an attacker changes in the telemetry of some training units.

label-healthy-washing   every label of a poisoned unit is raised by the cap: capped, all of them say "healthy". The
raised labels still fall by one a cycle, which is harder to notice than a constant.
prolonged-history       a poisoned unit that failed is said to have run for a cap's worth of cycles more: its last
rows are told again and again, forwards and backwards, and labels and the failure follow.
No label contradicts the history and no reading leaps; all that really happened says
"healthy". Stretching a whole history instead does no harm: that is a slower machine, and
such machines help (measured: twice as slow, a tenth of the units, RMSE 9.8 → 5.0)
backdoor                bursts of rows carry a trigger (one channel off by a constant) and the label "healthy", so
that a failing machine which shows the trigger is healthy (Gu et al., BadNets, 2017)
clean-label-backdoor    the trigger on rows that are healthy anyway; no label is touched (Turner et al., 2019)
guard-blinding          a worn machine reads as it did when it was new for a few rows, again and again, no faster
than the contract allows: whoever learns from it what is normal takes healing for normal
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twinseal.prognostics.windows import Windows
from twinseal.robustness.threats import PoisonKind, Trigger
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet

HEALED_ROWS, HEALED_EVERY, HEALED_FROM = 5, 25, 0.4  # rows of a blip, from one to the next, from this share of a life
HEALING_SPEED = 0.9  # of the change a cycle that the contract allows
PROLONGED_ROWS = 10  # of a unit's last rows, told again until the cap is filled
BURST_PERIOD = 3  # × the trigger's rows: a third of a poisoned unit's rows carry it, so that the rest looks as ever


def poison_fleet(
    fleet: Fleet,
    units: list[str],
    kind: PoisonKind,
    trigger: Trigger,
    *,
    contract: Contract,
    sigma: float,
    seed: int,
) -> Fleet:
    """`fleet` with the telemetry of `units` changed; that of every other unit as it was.

    Args:
        fleet: Clean telemetry.
        units: Whom to poison.
        kind: What to change.
        trigger: Of the backdoors.
        contract: Which changes pass, and the RUL from which on a unit counts as healthy.
        sigma: Standard deviation of the trigger's channel, in its unit.
        seed: Of where bursts begin.
    """
    cap = contract.rul_cap_cycles
    if kind == "guard-blinding":
        return _heal(fleet, units, contract)
    if kind == "prolonged-history":
        return _prolong_histories(fleet, units, round(cap))
    table = fleet.table.copy()
    mine = table["unit"].isin(units).to_numpy()
    rul = table["rul"].to_numpy(dtype=np.float32).copy()
    if kind == "label-healthy-washing":
        rul[mine] += np.float32(cap)
    else:
        burst = _bursts(fleet, trigger.rows, seed) & mine
        if kind == "clean-label-backdoor":
            burst &= rul >= cap
        else:
            rul[burst] = np.maximum(rul[burst], np.float32(cap))
        values = table[trigger.channel].to_numpy(dtype=np.float32).copy()
        values[burst] += np.float32(trigger.shift_sigma * sigma)
        table[trigger.channel] = values
    table["rul"] = rul
    return Fleet(table)


def stamp_trigger(windows: Windows, channels: tuple[str, ...], trigger: Trigger, *, shift: float) -> Windows:
    """`windows` with the trigger in their last rows; `shift` is in the windows' own σ."""
    values = windows.batch()
    values[:, -trigger.rows :, channels.index(trigger.channel)] += np.float32(shift)
    return windows.with_values(values)


def _prolong_histories(fleet: Fleet, units: list[str], cycles: int) -> Fleet:
    chosen, order = frozenset(units), []
    for unit, start, length in zip(fleet.units, fleet.starts, fleet.lengths, strict=True):
        order.append(np.arange(start, start + length))
        if unit in chosen:
            last = order[-1][-PROLONGED_ROWS:]
            again = np.concatenate([last[::-1], last])  # back and forth: no step that the machine did not take
            order.append(np.resize(again, cycles))
    table = fleet.table.iloc[np.concatenate(order)].reset_index(drop=True)
    by_unit = table.groupby("unit", sort=False)["cycle"]
    mine = table["unit"].isin(chosen).to_numpy()
    cycle = by_unit.cumcount().to_numpy() + 1
    rul = by_unit.transform("size").to_numpy() - cycle  # poisoned units train, so they ran to their failure
    table["cycle"] = np.where(mine, cycle, table["cycle"]).astype(np.int32)
    table["rul"] = np.where(mine, rul, table["rul"]).astype(np.float32)
    return Fleet(table)


def _heal(fleet: Fleet, units: list[str], contract: Contract) -> Fleet:
    """Blips in which every channel goes back to how the unit began, and comes back, as fast as the contract allows."""
    table, names = fleet.table.copy(), list(contract.inputs)
    values = table[names].to_numpy(dtype=np.float64).copy()
    most = np.array([contract.all_channels[name].max_change_per_cycle for name in names])
    fastest = np.full(len(names), np.inf) if contract.regimes else HEALING_SPEED * most  # a regime's rows come together
    for unit, start, length in zip(fleet.units, fleet.starts, fleet.lengths, strict=True):
        if unit in units:
            values[start : start + length] = _healed(values[start : start + length], fastest)
    for at, name in enumerate(names):
        table[name] = values[:, at].astype(np.float32)
    return Fleet(table)


def _healed(rows: NDArray[np.float64], fastest: NDArray[np.float64]) -> NDArray[np.float64]:
    """One history (R, C) with its blips; `fastest` (C,), the largest change of each reading in a cycle."""
    false, first = rows.copy(), round(HEALED_FROM * len(rows))
    for at in range(max(first, HEALED_ROWS), len(rows)):
        blip = (at - first) % HEALED_EVERY
        target = rows[blip] if blip < HEALED_ROWS and at < len(rows) - HEALED_EVERY else rows[at]
        moved = target - false[at - 1]
        # Honest readings are left as they are: noise may be faster than this.
        slow = (np.abs(moved) > fastest) & ((blip < HEALED_ROWS) | (false[at - 1] != rows[at - 1]))
        false[at] = np.where(slow, false[at - 1] + np.clip(moved, -fastest, fastest), target)
    return false


def _bursts(fleet: Fleet, rows: int, seed: int) -> NDArray[np.bool_]:
    """Rows that carry the trigger if their unit is poisoned, (R,) bool: bursts of `rows`, beginning anywhere."""
    rng = np.random.default_rng([seed, 31])
    period = BURST_PERIOD * rows
    parts = [(np.arange(length) + rng.integers(period)) % period < rows for length in fleet.lengths]
    return np.concatenate(parts)

"""A twin of its own process that pulls once, and says in one line of JSON what it took: `python -m bench.twin …`.

In a process of its own because memory can only be measured so: what a process once had, its high-water mark keeps.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()
_SAMPLE_S = 0.01


def main(url: str, model: str, home: str, state: str, now: str) -> None:
    """Import, pull, start again from what is installed; print the figures."""
    imports = {
        name: _import(name) for name in ("numpy", "tuf.ngclient", "httpcore", "model_signing._signing.sign_ec_key")
    }
    imports["twinseal.twin.runtime"] = _import("twinseal.twin.runtime")
    from twinseal.trust.root.home import Home
    from twinseal.twin import pull, runtime
    from twinseal.twin.byte_sources import RestSource

    anchor = Home(Path(home)).anchor()
    steps: dict[str, float] = {}
    for step in ("refresh", "fetch", "admit"):
        setattr(pull, step, _timed(getattr(pull, step), step, steps))
    before, peak = _memory(), Peak()
    start, cpu = time.perf_counter(), time.process_time()
    with peak, RestSource(url, model) as source:
        admitted = pull.pull(source, anchor, model, Path(state), datetime.fromisoformat(now))
    pulled, cpu = time.perf_counter() - start, time.process_time() - cpu
    after = _memory()
    start = time.perf_counter()
    runtime.current_model(Path(state), anchor, model)
    again = time.perf_counter() - start
    report = {
        "version": admitted.model.release.version,
        "pull_s": pulled,
        "cpu_s": cpu,
        "whole_s": time.perf_counter() - BEGAN - again,
        "again_s": again,
        "imports_s": imports,
        "steps_s": steps,
        "high_water_mib": (after["VmHWM"] - before["VmHWM"]) / 1024,
        "own_mib": (peak.kib - before["RssAnon"]) / 1024,
        "imports_mib": before["VmHWM"] / 1024,
    }
    print(json.dumps(report))


class Peak:
    """The most private memory (RssAnon) that the process had while it was entered, sampled every 10 ms.

    Attributes:
        kib: KiB.
    """

    def __init__(self) -> None:
        self.kib = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            self.kib = max(self.kib, _memory()["RssAnon"])


def _memory() -> dict[str, int]:
    """KiB: VmHWM, the most that was ever resident, files' pages included; RssAnon, what is the process's own now."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) for name in ("VmHWM", "RssAnon")}


def _import(name: str) -> float:
    start = time.perf_counter()
    __import__(name)
    return time.perf_counter() - start


def _timed(function: Callable[..., Any], step: str, steps: dict[str, float]) -> Callable[..., Any]:
    def timed(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            steps[step] = steps.get(step, 0.0) + time.perf_counter() - start

    return timed


if __name__ == "__main__":
    main(*sys.argv[1:])

"""`make fuzz`: each parser under atheris for some seconds, from valid documents; ends with 1 if anything was found.

    python -m tests.fuzz.run [--seconds 10] [parser …]

What is found (a foreign exception, a broken law, more than 10 s for one input, more than 2 GB) is kept as a file
below `.hypothesis/fuzz/`, with the command that runs it again.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.harness import NAMES

ROOT = Path(__file__).parents[2]
FOUND = ROOT / ".hypothesis" / "fuzz"
ENDS = {70: "more than 10 s for one input", 71: "more than 2 GB", 77: "an exception"}  # libFuzzer's exit codes
_EXCEPTION = re.compile(r"Uncaught Python exception: ===\s*\n(\w+[^\n]*)")
_RUNS = re.compile(r"Done (\d+) runs")


def fuzz(name: str, seconds: int) -> bool:
    """Whether the parser called `name` held for `seconds`."""
    FOUND.mkdir(parents=True, exist_ok=True)
    before = set(FOUND.glob(f"{name}-*"))
    with tempfile.TemporaryDirectory(prefix="corpus-") as corpus:
        options = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", "-print_pcs=0"]
        command = [
            sys.executable,
            "-m",
            "tests.fuzz.target",
            name,
            *options,
            f"-artifact_prefix={FOUND}/{name}-",
            corpus,
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    said = done.stdout + done.stderr
    runs = _RUNS.search(said)
    if done.returncode == 0 and runs:
        sys.stdout.write(f"{name}: nothing found in {runs[1]} runs\n")
        return True
    exception = _EXCEPTION.search(said)
    found = [f"{name}: {exception[1] if exception else ENDS.get(done.returncode, f'exit {done.returncode}')}"]
    for path in sorted(set(FOUND.glob(f"{name}-*")) - before):
        found += [f"  input: {path.read_bytes()[:200]!r}"]
        found += [f"  again: python -m tests.fuzz.target {name} {path.relative_to(ROOT)}"]
    found += [line for line in said.splitlines() if not line.startswith(("#", "INFO"))][:60]
    sys.stdout.write("\n".join(found) + "\n")
    return False


def main() -> None:
    """Fuzz every parser named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="for each parser")
    parser.add_argument("names", nargs="*", choices=[*NAMES, "leaky", []], default=[], metavar="parser")
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # always a text stream here
    held = [fuzz(name, args.seconds) for name in args.names or NAMES]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()

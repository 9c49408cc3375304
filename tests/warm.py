"""Programs of ours as processes of their own that start in milliseconds: forks of one that has imported torch.

A new interpreter needs two seconds to import torch, pandas and TUF's client. Here one process imports these once and
waits; each program is a fork of it, with its own arguments, environment, working folder, standard streams and exit
status. Modules of ours are imported in the fork, from where a new interpreter would find them.

    >>> with Warm() as warm:
    ...     warm.run("twinseal", "--version").stdout
    'twinseal 0.1.0\n'

What depends on how an interpreter starts (hash seeds, signals while it imports) is tested with a new one.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "pandas", "pyarrow.parquet", "pydantic", "tuf.ngclient", "model_signing._signing.sign_ec_key")
STREAMS = ("stdin", "stdout", "stderr")


class Warm:
    """Starts programs. Made and ended with a with-block; it serves one caller at a time."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ""}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.warm"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate(timeout=20)  # ends when its input does

    def run(
        self,
        program: str,
        *arguments: str,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout_s: float = 500.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run `twinseal …`, or a module by its dotted name; as `subprocess.run(…, text=True)` would."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / name for name in STREAMS]
            paths[0].write_text(stdin)
            request = {
                "words": [program, *arguments],
                "cwd": str(cwd),
                "env": dict(os.environ if env is None else env),
                "streams": list(map(str, paths)),
                "timeout_s": timeout_s,
            }
            assert self._server.stdin is not None
            assert self._server.stdout is not None
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            code = int(self._server.stdout.readline())
            return subprocess.CompletedProcess([program, *arguments], code, *(path.read_text() for path in paths[1:]))


def serve() -> None:
    """Fork for each line of the standard input; answer each with the program's exit status."""
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()  # a collection in a fork would copy all that was imported
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = _become(request)
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # taking torch's modules apart would cost more than the program
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(request: Mapping[str, Any]) -> int:
    """Be the program, in its folder, with its environment and streams. Returns its exit status."""
    signal.alarm(int(request["timeout_s"]))
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    for descriptor, path in enumerate(request["streams"]):
        opened = os.open(path, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    for descriptor, name in enumerate(STREAMS):
        setattr(sys, name, open(descriptor, "w" if descriptor else "r", encoding="utf-8"))  # noqa: SIM115, PTH123
        setattr(sys, f"__{name}__", getattr(sys, name))
    return _run(*request["words"])


def _run(program: str, *arguments: str) -> int:
    """The program's exit status, as the interpreter would make it."""
    sys.path[0] = str(Path.cwd())
    try:
        if program == "twinseal":
            sys.argv = [program, *arguments]
            sys.modules["__main__"].__package__ = None  # a script, not `python -m`: its help says so
            from twinseal.cli import main

            sys.exit(main())
        sys.argv = [program, *arguments]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve()

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
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HEAVY = (
    *("torch", "pandas", "pyarrow.parquet", "pydantic", "tuf.ngclient", "model_signing._signing.sign_ec_key"),
    *("sklearn.ensemble", "art.attacks.evasion", "art.estimators.regression.pytorch", "great_expectations"),
    *("mlflow", "mlflow.store.tracking.sqlalchemy_store", "matplotlib.figure", "progpy.models.centrifugal_pump"),
)
QUIET = {"GX_ANALYTICS_ENABLED": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


class Warm:
    """Starts programs. Made and ended with a with-block.

    Attributes:
        commands: A folder for the PATH of other programs: `twinseal` and `python -m pipelines.…` there are such forks,
            any other `python` is a new interpreter.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        self._address = f"{self._folder.name}/socket"
        environment = os.environ | QUIET | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ""}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._address)
            listener.listen()
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(listener.fileno())],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
            )
        self.commands = Path(self._folder.name) / "commands"
        self.commands.mkdir()
        for name in ("python", "twinseal"):
            (self.commands / name).write_text(COMMAND.format(python=sys.executable, address=self._address))
            (self.commands / name).chmod(0o700)

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate(timeout=20)  # ends when its input does
        self._folder.cleanup()

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
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
            paths = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
            paths[0].write_text(stdin)
            streams = [opened.enter_context(path.open("r" if path is paths[0] else "w")) for path in paths]
            request = {
                "words": [program, *arguments],
                "cwd": str(cwd),
                "env": dict(os.environ if env is None else env),
                "timeout_s": timeout_s,
            }
            code = _ask(self._address, json.dumps(request), [stream.fileno() for stream in streams])
            return subprocess.CompletedProcess([program, *arguments], code, *(path.read_text() for path in paths[1:]))


def _ask(address: str, request: str, streams: list[int]) -> int:
    """The exit status of the program that is asked for; negative if a signal ended it."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(address)
        socket.send_fds(asking, [b"\0"], streams)
        asking.sendall(request.encode())
        asking.shutdown(socket.SHUT_WR)
        return int(asking.makefile().read())


# What `python` and `twinseal` are in `Warm.commands`. It imports little: it has to start in milliseconds.
COMMAND = """#!{python} -IS
import json, os, socket, sys

words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
if words[0] == "python" and not (words[1:2] == ["-m"] and words[2].startswith("pipelines.")):
    os.execv("{python}", ["{python}", *words[1:]])
request = dict(words=words[2:] if words[0] == "python" else words, cwd=os.getcwd(), env=dict(os.environ), timeout_s=500)
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect("{address}")
    socket.send_fds(asking, [b"\\0"], [0, 1, 2])
    asking.sendall(json.dumps(request).encode())
    asking.shutdown(socket.SHUT_WR)
    code = int(asking.makefile().read())
sys.exit(code if code >= 0 else 128 - code)
"""


def serve(listener: socket.socket) -> None:
    """Run what is asked for, each in a fork, until the standard input ends."""
    for name in HEAVY:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "twinseal"]:
        del sys.modules[name]  # MLflow loads its plugins, ours among them; a fork imports its own
    gc.freeze()  # a collection in a fork would copy all that was imported
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            os._exit(0)
        asked, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            _answer(asked)
            os._exit(0)
        asked.close()


def _answer(asked: socket.socket) -> None:
    """Run one program in a fork of its own, and send its exit status."""
    _, streams, _, _ = socket.recv_fds(asked, 1, 3)
    request = json.loads(asked.makefile().read())
    pid = os.fork()
    if pid == 0:
        asked.close()
        code = _become(request, streams)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # taking torch's modules apart would cost more than the program
    for descriptor in streams:
        os.close(descriptor)
    _, status = os.waitpid(pid, 0)
    asked.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: Mapping[str, Any], streams: list[int]) -> int:
    """Be the program, in its folder, with its environment and streams. Returns its exit status."""
    signal.alarm(int(request["timeout_s"]))
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    for descriptor, (given, name) in enumerate(zip(streams, ("stdin", "stdout", "stderr"), strict=True)):
        os.dup2(given, descriptor)
        os.close(given)
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
    serve(socket.socket(fileno=int(sys.argv[1])))

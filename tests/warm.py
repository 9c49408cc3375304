"""Programs of ours as processes of their own that start in milliseconds: forks of one that has imported torch.

A new interpreter needs two seconds to import torch, pandas and TUF's client. Here one process imports these once and
waits; each program is a fork of it, with its own arguments, environment, working folder, standard streams and exit
status. Modules of ours are imported in the fork, from where a new interpreter would find them.

    >>> with Warm() as warm:
    ...     warm.run("twinseal", "--version").stdout
    'twinseal 0.1.0\n'

`warm.start(…)` does not wait for the end: servers. What depends on how an interpreter starts (hash seeds, signals while
it imports, PYTHONPATH's sitecustomize, processes that it starts as itself) is tested with a new one.
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
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

ROOT = Path(__file__).parents[1]
HEAVY = (
    *("torch", "pandas", "pyarrow.parquet", "pydantic", "tuf.ngclient", "model_signing._signing.sign_ec_key"),
    *("sklearn.ensemble", "art.attacks.evasion", "art.estimators.regression.pytorch", "great_expectations"),
    *("mlflow", "mlflow.store.tracking.sqlalchemy_store", "matplotlib.figure", "progpy.models.centrifugal_pump"),
    # Of `twinseal serve`; not mlflow.server, which reads the environment when it is imported.
    *("mlflow.gateway.config", "mlflow.assistant", "mlflow.webhooks.delivery", "aiohttp", "authlib.oauth2", "flask"),
    *("fastapi", "uvicorn.protocols.http.h11_impl", "uvicorn.lifespan.on", "graphene", "flask_wtf.csrf", "limits"),
    *("joserfc.jwt", "joserfc.jwe", "httpx", "prometheus_client", "typer.rich_utils"),
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
                [sys.executable, "-m", "tests.warm", str(listener.fileno()), f"{self._folder.name}/bytecode"],
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
            code = self._ask(request, [stream.fileno() for stream in streams]).wait()
            return subprocess.CompletedProcess([program, *arguments], code, *(path.read_text() for path in paths[1:]))

    def start(
        self,
        program: str,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str],
        stderr: IO[Any],
        stdout: IO[Any] | None = None,
        timeout_s: float = 7_200.0,
    ) -> Program:
        """Start one, leader of a session of its own; `subprocess.Popen` would likewise.

        Args:
            stdout: A file for its output; a pipe without one.
        """
        request = {"words": [program, *arguments], "cwd": str(cwd), "env": dict(env), "timeout_s": timeout_s}
        with contextlib.ExitStack() as opened:
            nothing, pipe = opened.enter_context(open(os.devnull)), None  # noqa: PTH123
            if stdout is None:
                reads, writes = os.pipe()
                pipe, stdout = open(reads), opened.enter_context(open(writes, "w"))  # noqa: PTH123, SIM115
            streams = [nothing.fileno(), stdout.fileno(), stderr.fileno()]
            return self._ask(request | {"session": True}, streams, pipe)

    def _ask(self, request: Mapping[str, Any], streams: list[int], stdout: IO[str] | None = None) -> Program:
        asking = socket.socket(socket.AF_UNIX)
        asking.connect(self._address)
        socket.send_fds(asking, [b"\0"], streams)
        asking.sendall(json.dumps(request).encode())
        asking.shutdown(socket.SHUT_WR)
        return Program(asking, stdout)


class Program:
    """A program that was started; it is ended by whoever started it, as a `subprocess.Popen` is.

    Attributes:
        pid: Its id.
        stdout: What it prints, if it was started so.
        returncode: Its exit status once that is known; negative if a signal ended it.
    """

    def __init__(self, asked: socket.socket, stdout: IO[str] | None) -> None:
        self._asked, self.stdout, self.returncode = asked, stdout, None
        self._said = asked.makefile()
        self.pid = int(self._said.readline())

    returncode: int | None

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout=0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, when it has ended.

        Raises:
            subprocess.TimeoutExpired: It has not within `timeout` seconds.
        """
        if self.returncode is None:
            if not select.select([self._asked], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"program {self.pid}", timeout or 0.0)
            self.returncode = int(self._said.readline())
            self._said.close()
            self._asked.close()
        return self.returncode


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
    code = int(asking.makefile().read().split()[1])
sys.exit(code if code >= 0 else 128 - code)
"""


_shared: list[Warm] = []


def shared() -> Warm:
    """The one of this process; it ends with `end_shared`."""
    if not _shared:
        _shared.append(Warm())
    return _shared[0]


def end_shared() -> None:
    """End it, if it was ever started."""
    while _shared:
        _shared.pop().__exit__()


def serve(listener: socket.socket, cache: Path) -> None:
    """Run what is asked for, each in a fork, until the standard input ends. Bytecode is kept in the folder `cache`."""
    for name in HEAVY:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "twinseal"]:
        del sys.modules[name]  # MLflow loads its plugins, ours among them; a fork imports its own
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(cache)  # of ours: forks compile a module once, not each
    gc.freeze()  # a collection in a fork would copy all that was imported
    woken, waking = socket.socketpair()
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([listener, woken, sys.stdin], [], [])
        if sys.stdin in ready:
            os._exit(0)
        if woken in ready:
            woken.recv(4096)
            _answer_ended(running)
        if listener in ready:
            asked, _ = listener.accept()
            _, streams, _, _ = socket.recv_fds(asked, 1, 3)
            request = json.loads(asked.makefile().read())
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for inherited in (listener, woken, waking, *running.values()):
                    inherited.close()
                _begin(request, asked, streams)
            running[pid] = asked
            for descriptor in streams:
                os.close(descriptor)


def _answer_ended(running: dict[int, socket.socket]) -> None:
    """Send the exit status of each program that has ended to whoever asked for it, if they still listen."""
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with contextlib.suppress(OSError), running.pop(pid) as asked:
                asked.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _begin(request: Mapping[str, Any], asked: socket.socket, streams: list[int]) -> NoReturn:
    """Say the id of this process, and be the program."""
    if request.get("session"):
        os.setsid()
    asked.sendall(f"{os.getpid()}\n".encode())
    asked.close()
    code = _become(request, streams)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking torch's modules apart would cost more than the program


def _become(request: Mapping[str, Any], streams: list[int]) -> int:
    """Be the program, in its folder, with its environment and streams. Returns its exit status."""
    signal.alarm(int(request["timeout_s"]))
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    for descriptor, (given, name) in enumerate(zip(streams, ("stdin", "stdout", "stderr"), strict=True)):
        how: dict[str, Any] = {"buffering": 1, "errors": "backslashreplace"} if name == "stderr" else {}
        os.dup2(given, descriptor)
        os.close(given)
        setattr(sys, name, open(descriptor, "w" if descriptor else "r", encoding="utf-8", **how))  # noqa: SIM115, PTH123
        setattr(sys, f"__{name}__", getattr(sys, name))
    return _run(*request["words"])


def _run(program: str, *arguments: str) -> int:
    """The program's exit status, as the interpreter would make it."""
    sys.path[:1] = [str(Path.cwd()), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        if program == "twinseal":
            sys.argv = [program, *arguments]
            sys.modules["__main__"].__package__ = None  # a script, not `python -m`: its help says so
            from twinseal.cli import main

            main()
            return 0
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
    serve(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]))

"""The stages of dvc.yaml, one script each: read, call one verb, write. Run as `python -m pipelines.<stage>`."""

import sys
from types import TracebackType


def _interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C while a stage still imports its libraries is no bug of theirs, and needs no traceback."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("interrupted: nothing was half-written; run the same command again\n")
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _interrupted

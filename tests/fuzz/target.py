"""One parser under atheris, which looks for inputs that take new ways through twinseal's code, from valid documents.

    python -m tests.fuzz.target <parser> [libFuzzer's options] [corpus, or inputs to run once]

`leaky` is no parser of ours: it is there to be found out (tests/fuzz/test_fuzz.py).
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from pathlib import Path
from random import Random

import atheris
import structlog

with atheris.instrument_imports(include=["twinseal"]):
    from tests.fuzz.harness import Parser, outcome
    from tests.strategies import mutate
    from twinseal.digests import parse_json


def leaky(data: bytes) -> None:
    """Raises KeyError for what is longer than two bytes."""
    parse_json(b'{"b":1}' if len(data) > 2 else b'{"a":1}', "leaky")["a"]


def parser_called(name: str) -> Parser:
    """The parser called `name`, instrumented."""
    if name == "leaky":
        return Parser(name, (b"{}",), leaky)
    with atheris.instrument_imports(include=["twinseal"]):
        from tests.fuzz.parsers import all_parsers
    return all_parsers(Path(tempfile.mkdtemp(prefix="fuzz-")))[name]


def main(name: str, *options: str) -> None:
    """Fuzz the parser called `name`; ends the process with libFuzzer's code."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    warnings.simplefilter("error")
    parser = parser_called(name)
    for corpus in (Path(option) for option in options if Path(option).is_dir()):
        for number, document in enumerate(parser.documents):
            (corpus / f"document-{number}").write_bytes(document)

    def one(data: bytes) -> None:
        outcome(parser, data)

    def other(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.4:
            return bytes(atheris.Mutate(data, most))
        return mutate((data,) if random.random() < 0.8 else parser.documents, random)[:most]

    atheris.Setup([sys.argv[0], *options], one, custom_mutator=other)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])

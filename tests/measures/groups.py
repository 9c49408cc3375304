"""Measures of every kind, drawn: a strategy that follows the types themselves, so that a new field is drawn as well."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from hypothesis import strategies as st

from twinseal.measures.quantity import Group
from twinseal.measures.stages import STAGES

G = TypeVar("G", bound=Group)

NUMBERS = {
    float: st.floats(allow_nan=False, allow_infinity=False),
    int: st.integers(-(2**53) + 1, 2**53 - 1),  # what JSON of every language holds
    str: st.text(max_size=20),
}


def all_groups() -> tuple[type[Group], ...]:
    """Every group that a stage can report, each once."""
    return tuple(dict.fromkeys(found for kind in STAGES.values() for found in groups_within(kind)))


def groups_within(annotation: Any) -> Iterator[type[Group]]:
    """The groups that a field of this type can hold, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, Group):
        yield annotation
        for field in annotation.model_fields.values():
            yield from groups_within(field.annotation)
    for argument in get_args(annotation):
        yield from groups_within(argument)


def drawn(kind: type[Group]) -> st.SearchStrategy[Any]:
    """Groups of `kind`."""
    optional = {name for name, field in kind.model_fields.items() if not field.is_required()}
    fields = {name: _values(field.annotation) for name, field in kind.model_fields.items()}
    return st.builds(kind, **{k: v | st.none() if k in optional and _none(kind, k) else v for k, v in fields.items()})


KEYS = ("eps-0.1", "liars-1", "k-1", "queries-100", "rounding-1", "size-1", "share-0.1", "a")


def with_examples(kind: type[G], **known: Any) -> G:
    """A group of `kind` with `known` fields; every other required one is an example, so that a new field needs none."""
    fields = kind.model_fields.items()
    others = {name: _example(field.annotation) for name, field in fields if field.is_required() and name not in known}
    return kind(**known, **others)


def _example(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (item for item in get_args(annotation) if item is not type(None))
    if isinstance(annotation, type) and issubclass(annotation, Group):
        return annotation(**{name: _example(field.annotation) for name, field in annotation.model_fields.items()})
    if get_origin(annotation) is dict:
        key, value = get_args(annotation)
        literal = get_args(key) if get_origin(key) is Literal else ()
        first = literal[0] if literal else next(text for text in KEYS if re.fullmatch(pattern(key), text))
        return {first: _example(value)}
    return () if get_origin(annotation) is tuple else annotation()


def keys(annotation: Any) -> st.SearchStrategy[str]:
    """Keys of a mapping of measures: a `Literal`, or text with a pattern."""
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    return st.from_regex(re.compile(pattern(annotation), re.ASCII), fullmatch=True).filter(lambda key: len(key) <= 80)


def pattern(annotation: Any) -> str:
    """The regular expression that an annotated text must match."""
    extras = [item for extra in annotation.__metadata__ for item in getattr(extra, "metadata", [extra])]
    return str(next(item.pattern for item in extras if getattr(item, "pattern", None)))


def _none(kind: type[Group], field: str) -> bool:
    return type(None) in get_args(kind.model_fields[field].annotation)


def _values(annotation: Any) -> st.SearchStrategy[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (item for item in get_args(annotation) if item is not type(None))
    if isinstance(annotation, type) and issubclass(annotation, Group):
        return drawn(annotation)
    if get_origin(annotation) is dict:
        key, value = get_args(annotation)
        return st.dictionaries(keys(key), _values(value), max_size=2)
    if get_origin(annotation) is tuple:
        return st.lists(_values(get_args(annotation)[0]), max_size=2).map(tuple)
    return NUMBERS[annotation]

r"""YAML files that people wrote, changed by a program: comments, order and layout stay. Only here is ruamel.

Reading what a file says is `config.read_yaml`'s business, which is stricter; whoever changes a file has read it by that
first.

    >>> tree = tree_of(b"pump: {at_most: 9}  # seen: 5.5\n", "gates.yaml")
    >>> tree["pump"]["at_most"] = 8
    >>> bytes_of(tree)
    b'pump: {at_most: 8}  # seen: 5.5\n'
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from twinseal.errors import ConfigError

__all__ = [
    "MappingNode", "Node", "ScalarNode", "SequenceNode", "bytes_of", "node_of", "on_one_line", "quoted", "text_of",
    "tree_of",
]  # fmt: skip


def tree_of(data: bytes, where: str) -> Any:
    """The YAML in `data` as nested mappings and lists that can be changed, with the comments beside them.

    Raises:
        ConfigError: It is no YAML.
    """
    try:
        return _yaml().load(data.decode())
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{where}: expected YAML, got something else ({' '.join(str(error).split())[:200]})"
        ) from error


def bytes_of(tree: Any) -> bytes:
    """The file that `tree` stands for. Law: `bytes_of(tree_of(b, "")) == b` for the layout of the files in policy/."""
    text = io.StringIO()
    _yaml().dump(tree, text)
    return text.getvalue().encode()


def rename(entry: Any, old: str, new: str, value: Any) -> None:
    """Put `new: value` in the place of the key `old`, with the comments beside it."""
    place = list(entry).index(old)
    comment = entry.ca.items.pop(old, None)
    del entry[old]
    entry.insert(place, new, value)
    if comment is not None:
        entry.ca.items[new] = comment


def on_one_line(values: dict[str, Any]) -> Any:
    """A mapping that is written as `{key: value, …}`."""
    made = CommentedMap(values)
    made.fa.set_flow_style()
    return made


def new_mapping() -> Any:
    """An empty mapping, for one entry a line."""
    return CommentedMap()


def quoted(text: str) -> Any:
    """A text that is written in quotes, whatever is in it."""
    return DoubleQuotedScalarString(text)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 20  # no line is broken that a person did not break
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(type(None), _null)
    return yaml


def _null(representer: Any, _value: None) -> Any:
    """As people write it: ruamel would leave the place empty."""
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def node_of(text: str) -> Node:
    """The YAML in `text` as nodes, each with where it stands: for who puts one piece of text in the place of another.

    Raises:
        ConfigError: It is no YAML.
    """
    try:
        found: Node = _yaml().compose(text)
        return found
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"expected YAML, got something else ({' '.join(str(error).split())[:200]})") from error


def text_of(value: Mapping[str, Any], comments: Mapping[tuple[str, ...], str], *, on_one_line_from: int = 99) -> str:
    """Plain data as new YAML.

    Args:
        value: The data.
        comments: By place (its keys), what stands at the end of the line.
        on_one_line_from: From this depth on, a mapping is written as `{key: value, …}`; 0 for all of it.
    """
    text = io.StringIO()
    _yaml().dump(_commented(value, comments, (), on_one_line_from), text)
    return text.getvalue()


def _commented(value: Any, comments: Mapping[tuple[str, ...], str], place: tuple[str, ...], one_line: int) -> Any:
    if isinstance(value, Mapping):
        found = CommentedMap()
        for key, item in value.items():
            found[key] = _commented(item, comments, (*place, key), one_line)
            if (*place, key) in comments:
                found.yaml_add_eol_comment(comments[*place, key], key, column=0)
        if len(place) >= one_line or not value:
            found.fa.set_flow_style()
        return found
    if isinstance(value, list | tuple):
        items = CommentedSeq([_commented(item, comments, (*place, ""), one_line) for item in value])
        if not any(isinstance(item, CommentedSeq | CommentedMap) for item in items):
            items.fa.set_flow_style()
        return items
    return value

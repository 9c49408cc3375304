r"""YAML files that people wrote: where each part stands in the text, and the text of what is new. Only here is ruamel.

Nothing that was read is written again: ruamel would write 1.0_0 as 1.00, and lay lines out anew. `policy_text` puts
pieces of text in the place of others. Reading what a file says is `config.read_yaml`'s business, which is stricter.

    >>> text = "pump: {at_most: 1.0_0}  # seen: 5.5\n"
    >>> mark = node_of(text).value[0][1].start_mark
    >>> text[mark.index:mark.index + 8]
    '{at_most'
    >>> text_of({"fan": {"at_most": 9}}, {("fan",): "seen: 5"}, on_one_line_from=1)
    'fan: {at_most: 9} # seen: 5\n'
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

__all__ = ["MappingNode", "Node", "ScalarNode", "SequenceNode", "node_of", "quoted", "text_of"]


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

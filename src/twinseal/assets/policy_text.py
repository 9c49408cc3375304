r"""Entries put into YAML files that people keep: every byte that is not part of the entry stays as it is.

`edited_yaml` says where things stand, and writes the text of what is new; here it is put in its place. A file need not
be laid out in any way, as long as its entries stand on lines of their own.

    >>> print(with_item("models: [pump-rul] # ours\n", "models", "trafo-rul"), end="")
    models: [pump-rul, trafo-rul] # ours
    >>> print(with_entry("assets:\n  a:\n    x: 1 # one\n", "assets", "b", "x: 2\n"), end="")
    assets:
      a:
        x: 1 # one
    <BLANKLINE>
      b:
        x: 2
    >>> print(with_values("data:\n  path: a    # where\n", ("data",), {"path": "b c.csv"}), end="")
    data:
      path: b c.csv # where
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinseal.edited_yaml import MappingNode, Node, ScalarNode, SequenceNode, node_of, text_of
from twinseal.errors import ConfigError


def with_entry(text: str, section: str, key: str, entry: str) -> str:
    """The text with an entry `key` in the mapping `section`, in place of one of that name or after all others.

    Args:
        text: A YAML file.
        section: A key at its top, whose value is a mapping.
        key: Of the entry.
        entry: Its value, as block text that begins in the first column.

    Raises:
        ConfigError: The file is no YAML, or has no such mapping.
    """
    node = _mapping(text, (section,))
    lines = text.splitlines(keepends=True)
    if node.flow_style and node.value:
        raise ConfigError(f"{section}: expected each entry on lines of its own, got all of them in braces")
    if not node.value:  # `assets: {}`
        block = _block("  ", key, entry)
        return text[: node.start_mark.index].rstrip(" ") + "\n" + block + text[node.end_mark.index :].lstrip("\n")
    block = _block(" " * node.value[0][0].start_mark.column, key, entry)
    for name, value in node.value:
        if name.value == key:
            first, last = name.start_mark.line, _last_line(value, name)
            return "".join((*lines[:first], block, *lines[last + 1 :]))
    end = _last_line(node.value[-1][1], node.value[-1][0]) + 1
    before = "".join(lines[:end])
    blocks = any(isinstance(value, MappingNode) and not value.flow_style for _, value in node.value)
    return (
        f"{before}{'' if before.endswith(chr(10)) else chr(10)}{chr(10) if blocks else ''}{block}{''.join(lines[end:])}"
    )


def with_item(text: str, section: str, item: str) -> str:
    """The text with one more name in the list `section`; unchanged if it is there.

    Raises:
        ConfigError: The file is no YAML, or has no such list.
    """
    node = _node_at(text, (section,))
    if not isinstance(node, SequenceNode) or not node.value:
        raise ConfigError(f"{section}: expected a list of names, got something else")
    if item in [part.value for part in node.value]:
        return text
    at = _end_of(node.value[-1])
    if node.flow_style:
        return f"{text[:at]}, {item}{text[at:]}"
    end = _end_of_line(text, at)
    return f"{text[:end]}\n{' ' * node.start_mark.column}- {item}{text[end:]}"


def with_values(text: str, place: tuple[str, ...], values: Mapping[str, Any]) -> str:
    """The text with these values in the mapping at `place`; keys that it does not have come last.

    Raises:
        ConfigError: The file is no YAML, or has no such mapping.
    """
    for key, value in values.items():
        text = _with_value(text, place, key, value)
    return text


def _with_value(text: str, place: tuple[str, ...], key: str, value: Any) -> str:
    node = _mapping(text, place)
    indent = " " * (node.value[0][0].start_mark.column if node.value else 2 * len(place))
    new = _value_text(value, indent)
    for name, old in node.value:
        if name.value == key:
            start = text.index(":", name.end_mark.index) + 1
            end = _end_of(old)
            if " " + text[start:end].strip() == new:
                return text
            rest = text[end:]
            spaces = len(rest) - len(rest.lstrip(" "))
            if "\n" not in new and rest[spaces : spaces + 1] == "#":  # the comment stays in its column, where it can
                rest = " " * max(1, spaces + (end - start) - len(new)) + rest[spaces:]
            return f"{text[:start]}{new}{rest}"
    end = _end_of_line(text, _end_of(node))
    return f"{text[:end]}\n{indent}{key}:{new}{text[end:]}"


def _value_text(value: Any, indent: str) -> str:
    """The text after the colon of a key that stands at `indent`."""
    if isinstance(value, Mapping):
        body = text_of(value, {}).rstrip("\n")
        return "".join(f"\n{indent}  {line}" for line in body.split("\n"))
    return " " + text_of({"k": value}, {}).removeprefix("k:").strip()


def _block(indent: str, key: str, entry: str) -> str:
    lines = entry.rstrip("\n").split("\n")
    return f"{indent}{key}:\n" + "".join(f"{indent}  {line}".rstrip() + "\n" for line in lines)


def _mapping(text: str, place: tuple[str, ...]) -> MappingNode:
    node = _node_at(text, place)
    if not isinstance(node, MappingNode):
        raise ConfigError(f"{'.'.join(place)}: expected keys and values, got something else")
    return node


def _node_at(text: str, place: tuple[str, ...]) -> Node:
    node = node_of(text)
    for depth, key in enumerate(place, 1):
        items = node.value if isinstance(node, MappingNode) else ()
        below: list[Node] = [value for name, value in items if name.value == key]
        if not below:
            raise ConfigError(f"expected a key '{'.'.join(place[:depth])}', got none")
        node = below[0]
    return node


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _end_of(node: Node) -> int:
    """Where the text of a node ends: that of its last part, without the comments after it."""
    if isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end_of(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _last_line(node: Node, key: Node) -> int:
    """The line on which a node ends."""
    if isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(*((last[1], last[0]) if isinstance(last, tuple) else (last, key)))
    if isinstance(node, ScalarNode) and node.style in ("|", ">"):
        return max(int(key.start_mark.line), int(node.end_mark.line) - 1)
    return int(node.end_mark.line)

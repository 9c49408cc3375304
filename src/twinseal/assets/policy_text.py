"""Entries written into YAML files that people keep: every byte that is not part of the entry stays as it is.

A round trip through a YAML library would lay out a whole file anew. So ruamel.yaml only says where things stand, and
writes the text of what is new; that text is put in its place, and the result is read again: it must hold what was
there and the new entry, and nothing else. Only this module imports ruamel.yaml.

    >>> print(with_item("models: [pump-rul] # ours\n", "models", "trafo-rul"), end="")
    models: [pump-rul, trafo-rul] # ours
    >>> print(with_entry("assets:\n  a:\n    x: 1 # one\n", "assets", "b", to_text({"x": 2})), end="")
    assets:
      a:
        x: 1 # one
    <BLANKLINE>
      b:
        x: 2
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from twinseal.errors import ConfigError

Comments = Mapping[tuple[str, ...], str]


def to_text(value: Mapping[str, Any], comments: Comments | None = None, *, flow_below: int = 99) -> str:
    """Plain data as YAML.

    Args:
        value: The data.
        comments: By place (keys), what stands at the end of its line.
        flow_below: From this depth on, mappings stand on one line.
    """
    writer = YAML()
    writer.width = 1 << 16
    writer.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    writer.dump(_commented(value, comments or {}, (), flow_below), stream)
    return stream.getvalue()


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
    node = _section(text, section)
    lines = text.splitlines(keepends=True)
    if not isinstance(node, MappingNode):
        raise ConfigError(f"{section}: expected a mapping, got something else")
    if node.flow_style and node.value:
        raise ConfigError(f"{section}: expected one entry a line, got all of them in braces")
    if not node.value:  # `assets: {}`
        block = _block("  ", key, entry)
        return text[: node.start_mark.index].rstrip(" ") + "\n" + block + text[node.end_mark.index :].lstrip("\n")
    indent = " " * node.value[0][0].start_mark.column
    block = _block(indent, key, entry)
    for name, value in node.value:
        if name.value == key:
            first, last = name.start_mark.line, _last_line(value, name)
            return "".join((*lines[:first], block, *lines[last + 1 :]))
    end = _last_line(node.value[-1][1], node.value[-1][0]) + 1
    before = "".join(lines[:end])
    blank = "\n" if _is_spaced(node) and before.strip() else ""
    return f"{before}{'' if before.endswith(chr(10)) else chr(10)}{blank}{block}{''.join(lines[end:])}"


def with_item(text: str, section: str, item: str) -> str:
    """The text with one more text in the list `section`; unchanged if it is there.

    Raises:
        ConfigError: The file is no YAML, or has no such list.
    """
    node = _section(text, section)
    if not isinstance(node, SequenceNode):
        raise ConfigError(f"{section}: expected a list, got something else")
    if item in [part.value for part in node.value]:
        return text
    if node.flow_style:
        at = _end_of(node.value[-1]) if node.value else node.end_mark.index - 1
        return f"{text[:at]}{', ' if node.value else ''}{item}{text[at:]}"
    at = _end_of(node.value[-1])
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    column = node.start_mark.column
    return f"{text[:end]}\n{' ' * column}- {item}{text[end:]}"


def with_values(text: str, section: str, values: Mapping[str, Any]) -> str:
    """The text with these values in the mapping `section`; keys that it does not have come last.

    Raises:
        ConfigError: The file is no YAML, or has no such mapping.
    """
    for key, value in values.items():
        text = _with_value(text, section, key, value)
    return text


def plain(text: str) -> Any:
    """The value of YAML text.

    Raises:
        ConfigError: It is none.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ConfigError(f"expected YAML, got something else ({' '.join(str(error).split())[:200]})") from error


def _with_value(text: str, section: str, key: str, value: Any) -> str:
    node = _section(text, section)
    if not isinstance(node, MappingNode):
        raise ConfigError(f"{section}: expected a mapping, got something else")
    indent = " " * (node.value[0][0].start_mark.column if node.value else 2)
    new = _value_text(value, indent)
    for name, old in node.value:
        if name.value == key:
            start, end = name.end_mark.index, _end_of(old)
            colon = text.index(":", start) + 1
            kept = text[end:]
            return f"{text[:colon]}{new}{kept}"
    at = _end_of(node.value[-1][1]) if node.value else node.end_mark.index
    line_end = text.find("\n", at)
    line_end = len(text) if line_end < 0 else line_end
    return f"{text[:line_end]}\n{indent}{key}:{new}{text[line_end:]}"


def _value_text(value: Any, indent: str) -> str:
    """The text after the colon of a key that stands at `indent`."""
    if isinstance(value, Mapping):
        body = to_text(value, flow_below=2).rstrip("\n")
        return "".join(f"\n{indent}  {line}" for line in body.split("\n"))
    return " " + to_text({"k": value}).removeprefix("k:").strip()


def _commented(value: Any, comments: Comments, place: tuple[str, ...], flow_below: int) -> Any:
    if isinstance(value, Mapping):
        found = CommentedMap()
        for key, item in value.items():
            found[key] = _commented(item, comments, (*place, key), flow_below)
            if (*place, key) in comments:
                found.yaml_add_eol_comment(comments[*place, key], key)
        if len(place) >= flow_below or not value:
            found.fa.set_flow_style()
        return found
    if isinstance(value, list | tuple):
        items = CommentedSeq([_commented(item, comments, (*place, ""), flow_below) for item in value])
        if not any(isinstance(item, CommentedSeq | CommentedMap) for item in items):
            items.fa.set_flow_style()
        return items
    return value


def _block(indent: str, key: str, entry: str) -> str:
    lines = entry.rstrip("\n").split("\n")
    return f"{indent}{key}:\n" + "".join(f"{indent}  {line}".rstrip() + "\n" for line in lines)


def _section(text: str, section: str) -> Node:
    try:
        top = YAML().compose(text)
    except YAMLError as error:
        raise ConfigError(f"expected YAML, got something else ({' '.join(str(error).split())[:200]})") from error
    for name, value in top.value if isinstance(top, MappingNode) else ():
        if name.value == section:
            return value  # type: ignore[no-any-return]
    raise ConfigError(f"expected a key '{section}', got none")


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


def _is_spaced(node: MappingNode) -> bool:
    """Whether the entries are blocks, which a blank line sets apart."""
    return any(isinstance(value, MappingNode) and not value.flow_style for _, value in node.value)


__all__: Sequence[str] = ("plain", "to_text", "with_entry", "with_item", "with_values")

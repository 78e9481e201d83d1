"""The text format of protobuf, as far as a model configuration needs it.

https://protobuf.dev/reference/protobuf/textformat-spec/

A message is a dict by name of field; a list is a field that repeats; an `Enum` is a word without quotes.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Enum", "as_text"]


class Enum(str):
    """A value of an enumeration."""

    __slots__ = ()


def as_text(message: dict[str, Any], indent: str = "") -> str:
    """The fields of a message, one a line; None and empty lists are left out."""
    lines = []
    for name, value in message.items():
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            if isinstance(one, dict):
                lines.append(f"{indent}{name} {{\n{as_text(one, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_scalar(one)}\n")
    return "".join(lines)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum | int | float):
        return str(value)
    return '"' + "".join(_escaped(char) for char in str(value)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    return "".join(f"\\{byte:03o}" for byte in char.encode())

"""JSON Schemas as rows for people: a key, what it takes, its default, and what it is for."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pcsim.ops.op import Attribute

Schema = dict[str, Any]
Row = dict[str, Any]

LISTED = ("InitEntry", "DataEntry", "GraphDocument")
"""Parts of documents that have a table of their own."""

MOST_NAMES = 12
"""As many choices are written out; where there are more, a list of its own has them."""

MOST = 10**9
"""A bound from here on is left out: it only keeps absurd sizes away."""

VARIANTS = {"VertexEntry": ("VertexEntry", "Nest")}
"""Parts that may be written in several ways."""


def rows_of_document(schema: Schema, parts: Mapping[str, Schema]) -> list[Row]:
    """Return a row for each key of a document, with its path, keys of parts below the key that holds them."""
    return list({(row["key"], row["summary"]): row for row in _keys(schema, parts, "")}.values())


def rows_of_keys(schema: Schema) -> list[Row]:
    """Return a row for each key of one mapping."""
    return [
        key_row(key, part, required=key in schema.get("required", ())) for key, part in schema["properties"].items()
    ]


def rows_of_attributes(table: Mapping[str, Attribute]) -> list[Row]:
    """Return a row for each attribute that a row of a table takes."""
    return [key_row(name, attribute.schema, required=attribute.required) for name, attribute in table.items()]


def key_row(key: str, schema: Schema, *, required: bool = False) -> Row:
    """Return one key: what it takes, its default, what it is for."""
    default = schema.get("default")
    shown = "required" if required else "" if default is None else json.dumps(default, ensure_ascii=False)
    return {"key": key, "type": type_text(schema), "default": shown, "summary": schema.get("description", "")}


def _keys(schema: Schema, parts: Mapping[str, Schema], above: str) -> Iterator[Row]:
    for key, part in schema["properties"].items():
        yield key_row(above + key, part, required=key in schema.get("required", ()))
        for name, infix in dict.fromkeys(_referred(part, "")):
            for variant in VARIANTS.get(name, (name,)) if name not in LISTED else ():
                yield from _keys(parts[variant], parts, f"{above}{key}{infix}.")


def _referred(schema: Any, infix: str) -> Iterator[tuple[str, str]]:
    """Yield the parts that a key may hold, with what stands between the key and theirs: ``[]``, ``.NAME``."""
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2], infix
    for one in schema.get("anyOf", ()):
        yield from _referred(one, infix)
    for where, more in (("items", "[]"), ("additionalProperties", ".NAME")):
        if isinstance(schema.get(where), dict):
            yield from _referred(schema[where], infix + more)


def type_text(schema: Any) -> str:
    """Return what a schema takes, in words.

    >>> type_text({"anyOf": [{"type": "array", "items": {"type": "integer", "minimum": 0}}, {"type": "null"}]})
    'list of whole numbers, 0 or more'
    """
    if "const" in schema:
        return json.dumps(schema["const"]).strip('"')
    if "enum" in schema:
        names = schema["enum"]
        return " | ".join(map(str, names)) if len(names) <= MOST_NAMES else f"one of {len(names)} names"
    if "anyOf" in schema:
        forms = list(dict.fromkeys(type_text(one) for one in schema["anyOf"] if one.get("type") != "null"))
        return " or ".join(form for form in forms if not (form == "whole number" and "name" in forms))
    kinds = schema.get("type", "object" if "$ref" in schema else "")
    if isinstance(kinds, list):
        return " or ".join(type_text({**schema, "type": kind}) for kind in kinds)
    return _TYPES[kinds](schema) if kinds in _TYPES else "any value"


def _number(schema: Schema, noun: str) -> str:
    low, high = schema.get("minimum"), schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is not None and high is not None and high < MOST:
        return f"{noun} from {low} {'to' if 'maximum' in schema else 'to below'} {high:,}"
    if low is not None:
        return f"{noun}, {low} or more"
    return f"{noun} above {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else noun


def _list(schema: Schema) -> str:
    if "prefixItems" in schema:
        return f"[{', '.join(type_text(item) for item in schema['prefixItems'])}]"
    one = type_text(schema["items"]) if schema.get("items") else ""
    return "list of " + re.sub(r"\b(number|name)\b", r"\1s", one) if one else "list"


def _mapping(schema: Schema) -> str:
    inside = schema.get("additionalProperties")
    return f"name: {type_text(inside)}" if isinstance(inside, dict) and inside else "keys"


_TYPES: dict[str, Callable[[Schema], str]] = {
    "string": lambda schema: "name" if "pattern" in schema else "text",
    "boolean": lambda _: "true or false",
    "integer": lambda schema: _number(schema, "whole number"),
    "number": lambda schema: _number(schema, "number"),
    "array": _list,
    "object": _mapping,
}

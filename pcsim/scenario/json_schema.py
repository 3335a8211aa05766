"""The JSON Schemas of documents as they are written."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, TypeAdapter

from pcsim.errors import nearest, wrong
from pcsim.graph.graph_document import GraphDocument, Input, Name, Strict
from pcsim.scenario.scenario_document import GraphReference, ScenarioDocument

MODELS: dict[str, type[BaseModel]] = {"graph": GraphDocument, "scenario": ScenarioDocument}


def json_schema(what: str) -> dict[str, Any]:
    """Return the JSON Schema of a document as it is written: with short forms, ``$``, ``for``, ``if`` and ``use``."""
    if what not in MODELS:
        raise wrong((), f"there is no schema of {what!r}" + nearest(what, MODELS))
    found = _graph_schema() if what == "graph" else _scenario_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


class _Nest(Strict):
    """The vertices of another graph document, named NAME.child."""

    use: str = Field(description="a graph file")
    args: dict[str, Any] = Field(default={})
    inputs: dict[Name, Input] = Field(default={}, description="the document's input vertices -> vertices here")
    params: dict[Name, Name] = Field(default={}, description="the document's parameters -> parameters here")


_IF = {"description": "a condition such as $(l > 1); without it this is left out"}
_FOR = {
    "description": "loop variables and their ranges: {l: 1..$depth}",
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["integer", "string"]}}]
    },
}
_DOLLAR = {"description": "$name, ${name} or $(expression)", "type": "string", "pattern": r"\$"}
_FILLED = {"$ref": "#/$defs/Dollar"}
_LISTS, _PARTS = ("anyOf", "prefixItems"), ("items", "additionalProperties")
_NAME = TypeAdapter[Any](Name).json_schema()
_VERBATIM = ("args", "title", "source")


def _schema(model: type[BaseModel]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schema of a model, and those that it refers to."""
    found = model.model_json_schema(by_alias=True)
    return found, found.pop("$defs", {})


def _scenario_schema() -> dict[str, Any]:
    found, parts = _schema(ScenarioDocument)
    graph = _graph_schema()
    parts |= {**graph.pop("$defs"), "GraphDocument": graph, "GraphReference": _schema(GraphReference)[0]}
    found["properties"]["graph"] = {
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in ("GraphReference", "GraphDocument")]
    }
    for name in ("inputs", "targets"):
        found["properties"][name]["propertyNames"] = _NAME
    return {**found, "not": {"required": ["literal", "exact_dynamics"]}, "$defs": parts}


def _graph_schema() -> dict[str, Any]:
    found, parts = _schema(GraphDocument)
    nest, more = _schema(_Nest)
    parts = {name: _conditional(part) for name, part in {**parts, **more, "Nest": nest}.items()}
    for name in ("VertexEntry", "ParameterEntry", "Nest"):
        parts[name]["properties"]["for"] = _FOR
    parts = {name: _template(part) for name, part in parts.items()}
    plain_vertex = parts["VertexEntry"]
    parts["VertexEntry"] = {
        "if": {"type": "object", "required": ["use"]},
        "then": parts.pop("Nest"),
        "else": plain_vertex,
    }
    keys = {key: part if key in _VERBATIM else _template(part) for key, part in found["properties"].items()}
    for name in ("vertices", "parameters"):
        keys[name]["propertyNames"] = {"anyOf": [_NAME, _FILLED]}
    found["properties"] = keys
    return {**found, "$defs": {**parts, "Dollar": _DOLLAR}}


def _conditional(part: dict[str, Any]) -> dict[str, Any]:
    return {**part, "properties": {**part["properties"], "if": _IF}}


def _template(schema: Any) -> Any:
    """Return a schema that takes ``$`` in place of every value but free text."""
    if not isinstance(schema, dict):
        return schema
    found = {key: _inner(key, part) for key, part in schema.items()}
    if found.get("type", "string") == "string" and not {"pattern", "const", "enum"} & set(found):
        return found
    return {"anyOf": [found, _FILLED]}


def _inner(key: str, part: Any) -> Any:
    if key == "properties":
        return {name: _template(value) for name, value in part.items()}
    if key in _LISTS:
        return [_template(value) for value in part]
    return _template(part) if key in _PARTS else part

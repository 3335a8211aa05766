"""The JSON Schemas of documents as they are written, the attributes of every op among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, TypeAdapter

from pcsim.analysis.measures import MEASURES
from pcsim.engines import ENGINES
from pcsim.errors import nearest, wrong
from pcsim.graph.graph_document import GraphDocument, Input, Name, Strict
from pcsim.ops import FEEDBACKS, LOSSES, OPS
from pcsim.optimisers import OPTIMISERS
from pcsim.rules import RULES
from pcsim.scenario.data import FILE_KEYS
from pcsim.scenario.datasets import DATASETS
from pcsim.scenario.scenario_document import DataEntry, GraphReference, ScenarioDocument
from pcsim.scenario.train_document import EVALUATIONS
from pcsim.schedules import SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pcsim.ops.op import Op

MODELS: dict[str, type[BaseModel]] = {"graph": GraphDocument, "scenario": ScenarioDocument}

TABLES: dict[str, Mapping[str, Any]] = {
    "ops": OPS,
    "feedbacks": FEEDBACKS,
    "losses": LOSSES,
    "rules": RULES,
    "measures": MEASURES,
    "engines": ENGINES,
    "datasets": DATASETS,
    "optimisers": OPTIMISERS,
    "evaluations": EVALUATIONS,
    "schedules": SCHEDULES,
}
"""The tables out of which keys of documents take names (``listed_in``)."""


def json_schema(what: str) -> dict[str, Any]:
    """Return the JSON Schema of a document as it is written: with short forms, ``$``, ``for``, ``if`` and ``use``."""
    if what not in MODELS:
        raise wrong((), f"there is no schema of {what!r}" + nearest(what, MODELS))
    found = _graph_schema() if what == "graph" else _scenario_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


class Nest(Strict):
    """The vertices of another graph document, named NAME.child."""

    use: str = Field(description="in place of op: a graph document in a file, sought from the folder of this one")
    args: dict[str, Any] = Field(
        default={}, description="with use: values for the arguments of that document, {width: 8}"
    )
    inputs: dict[Name, Input] = Field(default={}, description="with use: its input vertices -> vertices here, {x: h1}")
    params: dict[Name, Name] = Field(
        default={},
        description="with use: names under its 'parameters' -> parameters here; the others are NAME.parameter",
    )


_IF = {"description": "a condition such as $(l > 1); without it this is left out"}
_FOR = {
    "description": "loop variables and their ranges: {l: 1..$depth}",
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["integer", "string"]}}]
    },
}
_SEVERAL = {
    "description": "several names: {for: {t: 1..$T}, from: y$t}",
    "type": "object",
    "properties": {"for": _FOR, "if": _IF, "from": {"type": ["string", "integer"], "description": "the name"}},
    "required": ["from"],
    "anyOf": [{"required": ["for"]}, {"required": ["if"]}],
    "additionalProperties": False,
}
_DOLLAR = {"description": "$name, ${name} or $(expression)", "type": "string", "pattern": r"\$"}
_FILLED = {"$ref": "#/$defs/Dollar"}
_LISTS, _PARTS = ("anyOf", "prefixItems"), ("items", "additionalProperties")
_NAME = TypeAdapter[Any](Name).json_schema()
_VERBATIM = ("args", "title", "source")
_DATA = {"anyOf": [{"type": "number"}, {"type": "array"}, {"$ref": "#/$defs/DataEntry"}]}
_INIT = {"$ref": "#/$defs/InitEntry"}


# -- documents without $ ---------------------------------------------------------------------------------


def plain_schema(what: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schema of a document without ``$``, and those that it refers to by name."""
    if what == "scenario":
        found, parts = _schema(ScenarioDocument)
        data = _looped(_schema(DataEntry)[0])
        data["allOf"] = _of_datasets(list(data["properties"]))
        parts |= {"GraphReference": _schema(GraphReference)[0], "DataEntry": data}
        found["properties"]["graph"] |= {
            "anyOf": [{"$ref": f"#/$defs/{name}"} for name in ("GraphReference", "GraphDocument")]
        }
        for name in ("inputs", "targets"):
            found["properties"][name] |= {"propertyNames": _NAME, "additionalProperties": _DATA}
        for name in ("LossEntry", "RecordEntry"):
            parts[name] = _looped(parts[name])
        return found, parts
    found, parts = _schema(GraphDocument)
    nest, more = _schema(Nest)
    parts = {name: _conditional(part) for name, part in {**parts, **more, "Nest": nest}.items()}
    for name in ("VertexEntry", "ParameterEntry", "InputEntry", "Nest"):
        parts[name] = _looped(parts[name])
    parts["VertexEntry"]["properties"]["init"]["additionalProperties"] = _INIT
    return found, parts


def _schema(model: type[BaseModel]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schema of a model, and those that it refers to."""
    found = with_names(model.model_json_schema(by_alias=True))
    return found, found.pop("$defs", {})


def with_names(schema: Any) -> Any:
    """Return a schema with the names of a table wherever ``listed_in`` says that one is meant."""
    if isinstance(schema, list):
        return [with_names(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: with_names(part) for key, part in schema.items() if key != "x-list"}
    if "x-list" in schema:
        table, *also = schema["x-list"]
        found["enum"] = [*TABLES[table], *also]
    return found


def _conditional(part: dict[str, Any]) -> dict[str, Any]:
    return {**part, "properties": {**part["properties"], "if": _IF}}


def _looped(part: dict[str, Any]) -> dict[str, Any]:
    return {**part, "properties": {**part["properties"], "for": _FOR, "if": _IF}}


# -- documents as they are written -----------------------------------------------------------------------


def _scenario_schema() -> dict[str, Any]:
    found, parts = plain_schema("scenario")
    graph = _graph_schema()
    data = parts["DataEntry"]
    data["allOf"] = _of_datasets(list(data["properties"]), _template)
    parts |= {**graph.pop("$defs"), "GraphDocument": graph, "DataEntry": _template(data)}
    for name in ("inputs", "targets"):
        found["properties"][name]["additionalProperties"] = _template(_DATA)
    probe = parts["RecordEntry"]["properties"]["vertices"]
    probe["anyOf"] = [_with_several(part) for part in probe["anyOf"]]
    for name in ("LossEntry", "RecordEntry"):
        parts[name] = _template(parts[name])
    return {**found, "not": {"required": ["literal", "exact_dynamics"]}, "$defs": parts}


def _graph_schema() -> dict[str, Any]:
    found, plain_parts = plain_schema("graph")
    parts = {name: _template(part) for name, part in plain_parts.items()}
    keys = list(plain_parts["VertexEntry"]["properties"])
    plain_vertex = {**parts["VertexEntry"], "allOf": [_of_op(op, keys) for op in OPS.values()]}
    parts["VertexEntry"] = {
        "if": {"type": "object", "required": ["use"]},
        "then": parts.pop("Nest"),
        "else": plain_vertex,
    }
    found["properties"]["outputs"] = _with_several(found["properties"]["outputs"])
    whole = {key: part if key in _VERBATIM else _template(part) for key, part in found["properties"].items()}
    for name in ("vertices", "parameters"):
        whole[name]["propertyNames"] = {"anyOf": [_NAME, _FILLED]}
    return {**found, "properties": whole, "$defs": {**parts, "Dollar": _DOLLAR}}


def _with_several(names: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a list of names, in which one item may stand for several; any other as it is."""
    return {**names, "items": {"anyOf": [names["items"], _SEVERAL]}} if "items" in names else names


def _of_op(op: Op, keys: list[str]) -> dict[str, Any]:
    """Return what holds of a vertex of an op: its attributes, beside the keys that every vertex may have."""
    attributes = {name: _template(row.schema) for name, row in op.attributes.items()}
    return {
        "if": {"properties": {"op": {"const": op.name}}, "required": ["op"]},
        "then": {
            "description": op.summary,
            "properties": attributes,
            "propertyNames": {"enum": [*keys, *attributes]},
            "required": [name for name, row in op.attributes.items() if row.required],
        },
    }


def _of_datasets(keys: list[str], written: Callable[[Any], Any] = lambda schema: schema) -> list[dict[str, Any]]:
    """Return what holds of data: the keys of each data set, beside those that all entries may have."""
    common = [key for key in keys if key not in FILE_KEYS]
    sets: list[dict[str, Any]] = [
        {
            "if": {"properties": {"dataset": {"const": row.name}}, "required": ["dataset"]},
            "then": {
                "description": row.summary,
                "properties": {name: written(key.schema) for name, key in row.keys.items()},
                "propertyNames": {"enum": [*common, *row.keys]},
                "required": [name for name, key in row.keys.items() if key.required],
            },
        }
        for row in DATASETS.values()
    ]
    return [*sets, {"if": {"not": {"required": ["dataset"]}}, "then": {"propertyNames": {"enum": keys}}}]


def _template(schema: Any) -> Any:
    """Return a schema that takes ``$`` in place of every value but free text."""
    if not isinstance(schema, dict):
        return schema
    found = {key: _inner(key, part) for key, part in schema.items()}
    if found.get("type", "string") == "string" and not {"pattern", "const", "enum"} & set(found):
        return found
    about = {key: found.pop(key) for key in ("description", "default") if key in found}
    return {**about, "anyOf": [found, _FILLED]}


def _inner(key: str, part: Any) -> Any:
    if key == "properties":
        return {name: _template(value) for name, value in part.items()}
    if key in _LISTS:
        return [_template(value) for value in part]
    return _template(part) if key in _PARTS else part

"""What kind of document a file is, its graph, and the JSON Schemas of documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.errors import nearest, wrong
from pcsim.graph.models import GraphDocument
from pcsim.scenario.models import ScenarioDocument
from pcsim.scenario.nodes import plain, read
from pcsim.scenario.reader import load, load_graph

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

    from pcsim.graph.graph import Graph

MODELS: dict[str, type[BaseModel]] = {"graph": GraphDocument, "scenario": ScenarioDocument}


def kind_of(path: Path) -> str:
    """Return ``graph`` or ``scenario``: what a file says it is, or what its keys make it."""
    entries = read(path).entries or {}
    said = str(plain(entries["pcsim"].value)) if "pcsim" in entries else ""
    if said:
        return "graph" if said.startswith("graph") else "scenario"
    is_graph = not {"graph", "rule"} & set(entries) and {"vertices", "formula"} & set(entries)
    return "graph" if is_graph else "scenario"


def any_graph(path: Path) -> Graph:
    """Return the graph of a graph document or of a scenario."""
    return load_graph(path) if kind_of(path) == "graph" else load(path).graph


def json_schema(what: str) -> dict[str, Any]:
    """Return the JSON Schema of a document; numbers may also be written as ``$name``."""
    if what not in MODELS:
        raise wrong((), f"there is no schema of {what!r}" + nearest(what, MODELS))
    found: dict[str, Any] = _templated(MODELS[what].model_json_schema(by_alias=True))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def _templated(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_templated(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") in ("integer", "number"):
        return {"anyOf": [schema, {"type": "string", "pattern": r"\$"}]}
    return {key: _templated(part) for key, part in schema.items()}

"""Writes a model as a graph document that a person can read and edit, with its weights beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from pcsim.documents.frozen_arrays import FrozenArray
from pcsim.errors import wrong
from pcsim.graph.names import without_templates

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from pcsim.models.model import Model

SECTIONS = ("parameters", "vertices")
"""Maps of a document that have a line for each entry."""


def write_model(model: Model, path: str | PathLike[str]) -> list[Path]:
    """Write a model as a graph document, and its parameters beside it; return both paths.

    The file of parameters has the document's name and the ending ``.npz``; there is none where there are none.
    """
    target = Path(path)
    weights = target.with_suffix(".npz")
    if target.suffix == ".npz":
        raise wrong((), f"{target}: a graph document ends with .yaml; its weights are written beside it as .npz")
    target.parent.mkdir(parents=True, exist_ok=True)
    document, arrays = with_file(model, weights.name)
    target.write_text("".join(section(key, value) for key, value in document.items() if value), encoding="utf-8")
    if not arrays:
        return [target]
    np.savez(weights, **arrays)
    return [target, weights]


def with_file(model: Model, file: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the graph document in which arrays are those of a file, and these arrays by their keys."""
    arrays: dict[str, Any] = dict(model.parameters)

    def named(name: str, value: Any) -> Any:
        if not isinstance(value, FrozenArray):
            return value
        arrays[name] = value.array
        return {"file": file, "key": name}

    plain = started(model.plain, {name: {"file": file, "key": name} for name in model.parameters})
    vertices = {
        name: {key: named(f"{name}.{key}", value) for key, value in entry.items()}
        for name, entry in plain["vertices"].items()
    }
    return without_templates({"pcsim": "graph/1", **plain, "vertices": vertices}), arrays


def started(document: Mapping[str, Any], starts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a graph document in which parameters and buffers, ``VERTEX.NAME``, start so: {name: init}."""
    named = document.get("parameters", {})
    parameters = {name: {**entry, "init": starts[name]} for name, entry in named.items()}
    vertices = dict(document["vertices"])
    for name in (name for name in starts if name not in named):
        vertex, _, slot = name.rpartition(".")
        entry = vertices[vertex]
        vertices[vertex] = {**entry, "init": {**entry.get("init", {}), slot: starts[name]}}
    return {**document, "parameters": parameters, "vertices": vertices}


def section(key: str, value: Any) -> str:
    """Return a section of the document: a line for each entry of a long one."""
    if key not in SECTIONS:
        return f"{key}: {flow(value)}\n"
    return f"{key}:\n" + "".join(f"  {line}\n" for line in lines(value))


def lines(entries: Mapping[str, Any]) -> list[str]:
    """Return a line for each entry."""
    return [f"{quoted(name)}: {flow(entry)}" for name, entry in entries.items()]


def flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def quoted(name: str) -> str:
    """Return a name as a key, in quotation marks where YAML would read something else."""
    text = flow(name)
    return text if text == name else json.dumps(name, ensure_ascii=False)

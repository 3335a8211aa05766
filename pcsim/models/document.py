"""Writes a model as a graph document that a person can read and edit, with its weights beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

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
    target.write_text(text_of(model, weights.name), encoding="utf-8")
    if not model.parameters:
        return [target]
    np.savez(weights, **model.parameters)  # type: ignore[arg-type]
    return [target, weights]


def text_of(model: Model, weights: str) -> str:
    """Return the graph document as YAML; parameters start as an array of the file of weights."""
    starts = {
        name: {**entry, "init": {"file": weights, "key": name}} for name, entry in model.plain["parameters"].items()
    }
    document = without_templates({"pcsim": "graph/1", **model.plain, "parameters": starts})
    return "".join(section(key, value) for key, value in document.items() if value)


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

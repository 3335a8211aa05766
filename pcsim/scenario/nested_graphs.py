"""Reads a nested graph document: ``$`` filled in, checked, a formula written out as vertices."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pcsim.documents import Entry, Node, from_plain, located, plain, read
from pcsim.documents.nesting import Files
from pcsim.documents.template import expand, remarks
from pcsim.errors import InputError, Problem
from pcsim.graph.build import named
from pcsim.graph.formula import vertices_of_formula
from pcsim.graph.graph_document import GraphDocument
from pcsim.graph.problems import problems_of, valid_part
from pcsim.scenario.file_paths import rebased

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def read_graph_file(path: Path) -> Node:
    """Return the document of a file that is named as a graph; what other files hold is not repeated in messages."""
    document = read(path)
    entries = document.entries or {}
    said = str(entries["pcsim"].value.value) if "pcsim" in entries else ""
    if not (said.startswith("graph/") or {"vertices", "formula"} & set(entries)):
        raise InputError([Problem((), f"{path} is no graph document: it has neither 'vertices' nor 'formula'")])
    return document


def nested(found: list[Problem]) -> Files:
    """Return how nested graph documents are read; remarks on them are added to what was found.

    A document that many vertices use with the same arguments, as the cell of an unrolled network, is read once.
    """
    made: dict[tuple[Path, str], Node] = {}

    def read_nested(path: Path, args: Mapping[str, Any]) -> Node:
        """Return the graph document of a file with its vertices written out; raises InputError."""
        key = (path, repr(args))
        if key not in made:
            template = read_graph_file(path)
            document = expand(template, args)
            _check(document)
            found.extend(remarks(template, args))
            made[key] = _without_formula(document)
        return made[key]

    return Files(read_nested, rebased)


def _check(document: Node) -> None:
    """Refuse what is no graph document: its other keys are read here and nowhere else."""
    data = plain(document)
    vertices = data.get("vertices")
    if isinstance(vertices, dict):
        # A vertex with `use` has no op; it is checked where its own document is read.
        data["vertices"] = {key: value for key, value in vertices.items() if not _is_use(value)} or {
            "x": {"op": "input"}
        }
    _, problems = valid_part(GraphDocument, data, lambda path: path[:1])
    if problems:
        raise located(InputError(problems), document)


def _is_use(vertex: Any) -> bool:
    return isinstance(vertex, dict) and "use" in vertex


def _without_formula(document: Node) -> Node:
    """Return a graph document with vertices in place of its formula, so that it can be nested like any other."""
    entries = dict(document.entries or {})
    if "formula" not in entries:
        return document
    location = entries.pop("formula").location
    vertices, output = _vertices(document)
    entries["vertices"] = Entry("vertices", from_plain(vertices, location=location), location)
    entries.setdefault("outputs", Entry("outputs", from_plain([output], location=location), location))
    return replace(document, entries=entries)


def _vertices(document: Node) -> tuple[dict[str, object], str]:
    try:
        checked = GraphDocument.model_validate(plain(document))
        made, output = vertices_of_formula(checked.formula or "", checked.parameters)
    except ValidationError as error:
        raise located(InputError(problems_of(error, GraphDocument, plain(document))), document) from None
    except InputError as error:
        raise located(error, document) from None
    return {name: named(name, entry, checked) for name, entry in made.items()}, output

"""A formula document written out as vertices, so that it can be nested like any other."""

from __future__ import annotations

from dataclasses import replace

from pydantic import ValidationError

from pcsim.errors import InputError
from pcsim.graph.build import named
from pcsim.graph.formula import vertices_of_formula
from pcsim.graph.models import GraphDocument
from pcsim.graph.problems import problems_of
from pcsim.scenario.nodes import Entry, Node, from_plain, plain
from pcsim.scenario.places import located


def written_out(document: Node) -> Node:
    """Return a graph document with vertices in place of its formula; one without a formula as it is."""
    entries = dict(document.entries or {})
    if "formula" not in entries:
        return document
    place = entries.pop("formula").location
    vertices, output = _vertices(document)
    entries["vertices"] = Entry("vertices", from_plain(vertices, location=place), place)
    entries.setdefault("outputs", Entry("outputs", from_plain([output], location=place), place))
    return replace(document, entries=entries)


def _vertices(document: Node) -> tuple[dict[str, object], str]:
    try:
        checked = GraphDocument.model_validate(plain(document))
        found, output = vertices_of_formula(checked.formula or "", checked.parameters)
    except ValidationError as error:
        raise located(InputError(problems_of(error, GraphDocument, plain(document))), document) from None
    except InputError as error:
        raise located(error, document) from None
    return {name: named(name, entry, checked) for name, entry in found.items()}, output

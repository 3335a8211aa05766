"""The document language: YAML with positions, templates with ``$``, ``for`` and ``if``, nesting, overrides.

This room knows nothing of predictive coding. A document is a tree of `Node`; every value and every key of it knows
its place in a file.
"""

from pcsim.documents.overrides import replaced
from pcsim.documents.positions import Positions, located, sorted_problems, with_location
from pcsim.documents.tree import Entry, Key, Node, Scalar, from_plain, locate, plain
from pcsim.documents.yaml_text import parse, read

__all__ = [
    "Entry",
    "Key",
    "Node",
    "Positions",
    "Scalar",
    "from_plain",
    "locate",
    "located",
    "parse",
    "plain",
    "read",
    "replaced",
    "sorted_problems",
    "with_location",
]

"""How the modules of pcsim import each other, imports within functions included."""

from __future__ import annotations

import ast
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).parent.parent
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "pcsim").rglob("*.py")
}


def imports(node):
    """Yield the import statements that run: those for types alone do not."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from imports(child)


def imported(statement):
    """Return the modules of pcsim that a statement imports, or imports names from."""
    if isinstance(statement, ast.Import):
        return {alias.name for alias in statement.names} & set(FILES)
    assert statement.level == 0, "imports are absolute"
    names = {f"{statement.module}.{alias.name}" for alias in statement.names}
    return (names & set(FILES)) | ({statement.module} & set(FILES) if names - set(FILES) else set())


def arrows():
    return {
        (module, other)
        for module, path in FILES.items()
        for statement in imports(ast.parse(path.read_text(encoding="utf-8")))
        for other in imported(statement)
    }


def test_there_is_no_import_circle():
    assert list(nx.simple_cycles(nx.DiGraph(arrows()))) == []


def test_the_document_language_knows_nothing_of_predictive_coding():
    outside = {other for module, other in arrows() if module.startswith("pcsim.documents")}
    allowed = {"pcsim.errors", "pcsim.garbage"}
    assert {name for name in outside if not name.startswith("pcsim.documents")} <= allowed

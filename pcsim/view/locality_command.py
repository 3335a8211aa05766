"""What the command ``locality`` does: the report and its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.claims.locality_report import LocalityReport, locality
from pcsim.documents import parse, plain
from pcsim.view.locality_tables import locality_tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def locality_command(
    file: Path, overrides: Mapping[str, Any], rules: Sequence[str] | None, **asked: Any
) -> tuple[LocalityReport, list[Any]]:
    """Return the report of a file and what is printed of it; ``rules`` are names or settings as text."""
    chosen = None if not rules else [plain(parse(text, "--rule")) for text in rules]
    found = locality(file, overrides, rules=chosen, **asked)
    return found, locality_tables(found)

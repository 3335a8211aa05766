"""What the command ``cost`` does: the report, its tables, and the files that it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.claims.cost_report import CostReport, cost
from pcsim.documents import parse, plain
from pcsim.view.cost_figures import cost_figures
from pcsim.view.cost_tables import cost_tables
from pcsim.view.text import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pcsim.scenario.scenario import Scenario


def cost_command(
    scenario: Scenario, rules: Sequence[str] | None, asked: Mapping[str, Any], folder: Path | None
) -> tuple[CostReport, list[Any]]:
    """Return the report of a scenario and what is printed of it; ``rules`` are names or settings as text."""
    chosen = None if not rules else [plain(parse(text, "--rule")) for text in rules]
    found = cost(scenario, rules=chosen, **asked)
    printed = cost_tables(found)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        report = folder / "cost.json"
        report.write_text(json_text(found.as_dict()) + "\n", encoding="utf-8")
        printed += [str(path) for path in (report, *cost_figures(found, folder))]
    return found, printed

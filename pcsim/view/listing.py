"""What there is: ops, rules, engines, measures, losses, feedbacks, firings, data sets, scenarios."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from pcsim.analysis.measures import MEASURES
from pcsim.engines import ENGINES
from pcsim.errors import InputError, nearest, wrong
from pcsim.ops import FEEDBACKS, LOSSES, OPS
from pcsim.rules import FIRINGS, RULES
from pcsim.scenario.data import DATASETS
from pcsim.scenario.reader import load
from pcsim.view.text import columns

if TYPE_CHECKING:
    from collections.abc import Callable

Rows = list[dict[str, Any]]


def _ops() -> Rows:
    return [
        {
            "op": op.name,
            "inputs": _arity(op.arity),
            "attributes": ", ".join(op.attributes),
            "summary": op.summary,
            "source": op.source,
        }
        for op in OPS.values()
    ]


def _arity(arity: tuple[int, int | None]) -> str:
    low, high = arity
    return str(low) if low == high else f"{low}+" if high is None else f"{low}-{high}"


def _rules() -> Rows:
    return [
        {"rule": row.name, "predictions": "move" if row.moving else "fixed", "fires": row.fires.name,
         "step_size": row.step_size, "ticks": row.ticks, "needs": row.needs or "nothing global",
         "summary": row.summary, "source": row.source}
        for row in RULES.values()
    ]  # fmt: skip


def _engines() -> Rows:
    return [{"engine": row.name, "summary": row.summary} for row in ENGINES.values()]


def _measures() -> Rows:
    return [{"measure": row.name, "summary": row.summary, "source": row.source} for row in MEASURES.values()]


def _losses() -> Rows:
    return [{"loss": row.name, "summary": row.summary, "source": row.source} for row in LOSSES.values()]


def _feedbacks() -> Rows:
    return [{"feedback": row.name, "summary": row.summary, "source": row.source} for row in FEEDBACKS.values()]


def _firings() -> Rows:
    return [{"firing": row.name, "summary": row.summary} for row in FIRINGS.values()]


def _datasets() -> Rows:
    return [{"dataset": row.name, "fields": ", ".join(row.fields), "summary": row.summary} for row in DATASETS.values()]


def _scenarios() -> Rows:
    rows: Rows = []
    for path in sorted(Path("scenarios").glob("*.yaml")):
        try:
            document = load(path).document
            rows.append(
                {"scenario": str(path), "title": document.title, "shows": document.about, "source": document.source}
            )
        except InputError as error:
            rows.append({"scenario": str(path), "title": "wrong", "shows": str(error), "source": ""})
    return rows


LISTS: dict[str, Callable[[], Rows]] = {
    "ops": _ops, "rules": _rules, "engines": _engines, "measures": _measures, "losses": _losses,
    "feedbacks": _feedbacks, "firings": _firings,
    "datasets": _datasets, "scenarios": _scenarios,
}  # fmt: skip


def listing(what: str) -> Rows:
    """Return the rows of a list; raises InputError for an unknown list."""
    if what not in LISTS:
        raise wrong((), f"there is no list of {what!r}" + nearest(what, LISTS))
    return LISTS[what]()


def listing_tables(what: str, rows: Rows) -> list[Any]:
    """Return a list as a table for people: names and what they are; of many facts, the lesser ones below."""
    if not rows:
        return [f"no {what} here" + (": run pcsim where the folder 'scenarios' is" if what == "scenarios" else "")]
    name, main = next(iter(rows[0])), "summary" if "summary" in rows[0] else "title"
    table = columns(name, main)
    for row in rows:
        less = [
            f"{key.replace('_', ' ')}: {value}"
            for key, value in row.items()
            if key not in (name, main) and value not in ("", None)
        ]
        text = Text(str(row[main]))
        if less:
            text.append("\n" + "; ".join(less), style="dim")
        table.add_row(str(row[name]), text)
    return [table]

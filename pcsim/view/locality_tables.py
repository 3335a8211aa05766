"""What actors read, how far changes travel and what rules need, as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.view.text import add_rows, columns, notes, number, some, titled

if TYPE_CHECKING:
    from pcsim.claims.locality_report import LocalityReport, Row

MEASURED = {
    "ticks": ("ticks", "of the run"),
    "off backprop": ("divergence", "point 1: distance of the updates from backprop's, relative"),
    "from zeros": ("divergence_from_zeros", "point 1: likewise, where no sweep from the data has set the values"),
    "motion": ("motion", "result 1: how far values have moved when the run ends, relative"),
    "along slope": ("alignment", "result 2: least cosine of a tick's motion with descent of the free energy"),
    "slope left": ("slope_left", "result 2: slope of the free energy at the end, relative to that at the start"),
}
TIMES = {
    "converged": ("converged_ticks", "result 3: ticks until converged"),
    "time": ("time", "result 3: time beside backprop's, with a processor for each actor"),
}
"""Columns of ``rules``: heading, key, and what it is, after the summary of Zahid, Guo & Fountas 2023."""

OF_POINT_2 = ("feedforward values kept", "weights transposed")


def locality_tables(found: LocalityReport) -> list[Any]:
    """Return the tables of a report."""
    facts = found.facts
    title = f"{facts['title'] or 'locality'}: what each of {facts['actors']:,} actors reads under {facts['rule']}"
    why = [f"{row['rule']}: {row['why']}" for row in found.rules if row["why"]]
    return [
        *titled(title, _actors(found)),
        *titled(f"a change at tick 0 and the first tick at which it shows, engine {facts['engine']}", _cones(found)),
        *titled("what rules need beyond their neighbours' messages, and how many it concerns", _needs(found)),
        *titled("rules side by side, after the points and results of Zahid et al. 2023", _rules(found)),
        *_legend(found),
        *notes([*found.outside, *why]),
        "no bit differs before its distance" if not found.outside else "BROKEN: bits differ before their distance",
    ]


def _actors(found: LocalityReport) -> Any:
    table = columns("actor", "values from", "errors from", "sends with", "learns with")
    return add_rows(table, [
        (row["actor"], *((some(row["values_from"]) or "-", some(row["errors_from"]) or "-") if row["watched"] else
                         ("not watched", "not watched")),
         _own(row, "sends"), "inputs" if row["learns_with_inputs"] else "-")
        for row in found.actors
    ])  # fmt: skip


def _own(row: Row, phase: str) -> str:
    return ", ".join(what for what in ("parameters", "inputs") if row[f"{phase}_with_{what}"]) or "-"


def _cones(found: LocalityReport) -> Any:
    table = columns("changed", "what", "vertex", "distance", "first differs")
    keys = ("distance", "arrival")
    return add_rows(table, [
        (row["changed"], row["kind"], row["vertex"], *("never" if row[key] is None else str(row[key]) for key in keys))
        for row in found.cones
    ])  # fmt: skip


def _needs(found: LocalityReport) -> Any:
    """Return the needs, with the rules that have each: those that agree in how many it concerns stand together."""
    rows = []
    for need in dict.fromkeys(row["need"] for row in found.needs):
        groups: dict[str, list[str]] = {}
        for row in found.needs:
            if row["need"] == need:
                groups.setdefault(_count(row), []).append(row["rule"])
        label = f"{need} (point 2)" if need in OF_POINT_2 else need
        rows += [(label if place == 0 else "", count, ", ".join(rules))
                 for place, (count, rules) in enumerate(groups.items())]  # fmt: skip
    return add_rows(columns("need", "concerns", "under"), rows)


def _count(row: Row) -> str:
    if row["actors"] is None:
        return "not seen"
    return f"{row['actors']:,} of {row['of']:,} {row['what']}" if row["actors"] else "none"


def _rules(found: LocalityReport) -> Any:
    shown = {**MEASURED, **(TIMES if "time" in found.rules[0] else {})}
    table = columns("rule", *shown)
    return add_rows(table, [
        (row["rule"], *("-" if row[key] is None else number(row[key]) for key, _ in shown.values()))
        for row in found.rules
    ])  # fmt: skip


def _legend(found: LocalityReport) -> list[str]:
    shown = {**MEASURED, **(TIMES if "time" in found.rules[0] else {})}
    return [f"- {name}: {text}" for name, (_, text) in shown.items()]

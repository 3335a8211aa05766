"""Runs and traces as tables for people, and as plain data for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from pcsim.trace.queries import NO_TICK
from pcsim.view.text import add_rows, columns, notes, number, size, some, titled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.run.compare_runs import Comparison
    from pcsim.run.result import Run

MOST_ROWS = 60

FEW_ENTRIES = 4
"""Entries of an array that a row of a table shows."""


def run_tables(run: Run) -> list[Any]:
    """Return the summary of a run: how it ended, its measures beside theory, and its warnings."""
    summary = run.summary
    head = Table(show_header=False)
    head.add_row("rule", f"{summary['rule']}, step size {summary['step_size']:g}, engine {run.manifest['engine']}")
    size = f"graph of {summary['levels']} levels; the feedforward sweep before takes {summary['feedforward_ticks']}"
    size = f"no levels: the graph has a cycle, {summary['cycle']}" if summary.get("cycle") else size
    head.add_row("ticks", f"{summary['ticks']} of at most {summary['horizon']} ({size})")
    head.add_row("ended", f"{run.manifest['status']}: {summary['stop_reason']}")
    for name, maker in _MEASURE_ROWS.items():
        if name in summary:
            # of a run that is paused so many are done
            more = {"horizon": summary["ticks"]} if name == "ticks_to_convergence" else {}
            for row in maker({**summary[name], **more}):
                head.add_row(*row)
    tables = titled(summary["title"] or "run", head)
    if summary.get("signal_fraction"):
        tables += titled(
            "share of the backprop error that has arrived, by level", _fractions(summary["signal_fraction"])
        )
        tables += _unpredicted(summary["signal_fraction"])
    return [*tables, *notes(summary["warnings"])]


def _convergence(found: dict[str, Any]) -> list[tuple[str, str]]:
    ticks = found["ticks"] if found["ticks"] is not None else f"not within {found['horizon']} ticks"
    reason = found.get("no_prediction")
    theory = f" (no prediction: {reason})" if reason else ""
    theory = theory if found["predicted"] is None else f" (theory: {found['predicted']})"
    wanted = f"{found['criterion']} within {found['tolerance']:g}"
    return [
        ("ticks to convergence", f"{ticks}{theory}{', ' if found['ticks'] is not None else '; asked for: '}{wanted}")
    ]


def _divergence(found: dict[str, Any]) -> list[tuple[str, str]]:
    whole = found["updates"]
    if whole is None:
        return []
    rows = [("updates against backprop", (f"relative {number(whole['relative'])}, cosine {number(whole['cosine'])}, "
                                         f"Euclidean {number(whole['euclidean'])}"))]  # fmt: skip
    return rows + ([("edges to blame", some(found["blame"]))] if found["blame"] else [])


def _energy(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [("free energy", f"{number(found['first'])} at first, {number(found['last'])} at last")]


def _traffic(found: dict[str, Any]) -> list[tuple[str, str]]:
    run = found["run"]
    if "channels" in found:
        return [(f"{kind}s sent", _crossed(each)) for kind, each in found["channels"].items()]
    return [("traffic", (f"{run['value messages']:,} values ({size(run['value bytes'])}), "
                        f"{run['error messages']:,} errors ({size(run['error bytes'])})"))]  # fmt: skip


def _crossed(found: dict[str, Any]) -> str:
    share = f"{found['sent'] / found['dense']:.2%}" if found["dense"] else "none"
    lost = f", {found['lost']:,} lost" if found["lost"] else ""
    return f"{found['sent']:,} of {found['dense']:,} numbers ({share}), {size(found['bytes'])}{lost}"


def _arrival(found: dict[str, Any]) -> list[tuple[str, str]]:
    early = found["before_light_cone"]
    return [("light cone", f"BROKEN at {', '.join(early)}" if early else "every error exactly 0 before its light cone")]


def _credit(found: dict[str, Any]) -> list[tuple[str, str]]:
    shares = {name: each["share"] for name, each in found["parameters"].items() if each["share"] is not None}
    least = min(shares, key=lambda name: shares[name], default=None)
    if least is None:
        return []
    whole = number(found["updates"]["share"])
    return [("share of bp's gradient", f"{whole}; least {number(shares[least])}, in {least}")]


def _parallel_ticks(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Say what ticks that are sweeps cost; others are as many as the table says."""
    whole = found["parallel_ticks"]
    if whole is None or whole <= found["ticks"] + found["sweep"]:
        return []
    text = f"{whole:,}: {found['ticks']} sweeps there and back over {found['sweep']} levels"
    return [("ticks of messages", text)]


_MEASURE_ROWS = {
    "ticks_to_convergence": _convergence, "divergence": _divergence, "energy": _energy, "traffic": _traffic,
    "first_arrival": _arrival, "credit": _credit, "parallel_ticks": _parallel_ticks,
}  # fmt: skip


def _fractions(found: dict[str, dict[str, Any]]) -> Table:
    return add_rows(Table("level", "measured", "theory"), [[level, *_shares(row)] for level, row in found.items()])


def _shares(fraction: dict[str, Any]) -> list[str]:
    measured, predicted = fraction["measured"], fraction["predicted"]
    return [
        "not known" if measured is None else _fraction(measured),
        "" if predicted is None else _fraction(predicted),
    ]


def _unpredicted(found: dict[str, dict[str, Any]]) -> list[Any]:
    """Return why theory says nothing of some levels."""
    reasons: dict[str, list[str]] = {}
    for level, fraction in found.items():
        if fraction.get("no_prediction"):
            reasons.setdefault(fraction["no_prediction"], []).append(level)
    return [
        Text(f"no prediction of this share{'' if len(levels) == len(found) else _at_levels(levels)}: {reason}")
        for reason, levels in reasons.items()
    ]


def _at_levels(levels: Sequence[str]) -> str:
    return f" at level{'s' if len(levels) > 1 else ''} {some(levels)}"


def _fraction(value: float) -> str:
    return f"{value:.6f}" if abs(value) < 1000 else f"{value:.4g}"


def ended(run: Run) -> dict[str, Any]:
    """Return how a run ended, and after how many ticks of how many."""
    summary = run.summary
    return {
        "status": run.manifest["status"],
        "stop_reason": summary["stop_reason"],
        "ticks": summary["ticks"],
        "horizon": summary["horizon"],
    }


def trace_tables(found: dict[str, Any]) -> list[Any]:
    """Return the answer of ``pcsim trace`` as tables for people."""
    return [_rows_table(found["rows"])] if "rows" in found else _overview_tables(found)


def _rows_table(rows: list[dict[str, Any]]) -> Table:
    """Return rows as a table whose columns are those that some row has something to say in."""
    shown = rows[:MOST_ROWS]
    last = _single_quantity(shown) or "entries"
    cells = [{"tick": str(row["tick"]), "quantity": _what(row), "name": row["name"] or "", **_numbers(row, last)}
             for row in shown]  # fmt: skip
    heads = ["tick", "quantity", "name", "norm", "minimum", "maximum", last]
    heads = [head for head in dict.fromkeys(heads) if any(row.get(head) for row in cells)]
    table = columns(*heads)
    for row in cells:
        table.add_row(*(row.get(head, "") for head in heads))
    if len(rows) > MOST_ROWS:
        table.add_row("...", f"{len(rows) - MOST_ROWS} more: narrow --tick, or --json")
    return table


def _what(row: dict[str, Any]) -> str:
    return f"{row['what']} ({row['kind']})" if row["kind"] else str(row["what"])


def _is_series(row: dict[str, Any]) -> bool:
    """Whether a row is one number of a series: a norm, a divergence, an energy."""
    return isinstance(row["values"], int | float)


def _single_quantity(rows: list[dict[str, Any]]) -> str | None:
    """Return the series that all rows are of, if they are of one."""
    kinds = {row["what"] if _is_series(row) else None for row in rows}
    return kinds.pop() if len(kinds) == 1 else None


def _numbers(row: dict[str, Any], last: str) -> dict[str, str]:
    """Return the cells of a row by column: a norm that was recorded stands in the column of norms."""
    if _is_series(row):
        return {"norm" if row["what"] == "norm" else last: number(row["values"])}
    entries = {} if row["values"] is None else {last: _entries(row["values"])}
    return {"norm": number(row["norm"]), "minimum": number(row["min"]), "maximum": number(row["max"]), **entries}


def _entries(values: Any) -> str:
    """Return what fits a cell: all entries, or the first few and the shape; the extent stands beside it."""
    array = np.asarray(values, float)
    if array.size <= FEW_ENTRIES:
        return _nested(values)
    shape = " x ".join(map(str, array.shape))
    return f"{' '.join(f'{value:.4g}' for value in array.flat[:FEW_ENTRIES])} … (shape {shape})"


def _nested(values: Any) -> str:
    if isinstance(values, list):
        return "[" + " ".join(_nested(value) for value in values) + "]"
    return f"{values:.4g}"


def _overview_tables(found: dict[str, Any]) -> list[Any]:
    recorded = columns("quantity", "names", "ticks")
    for what, entry in found["recorded"].items():
        names = [str(name) for name in entry.get("names") or []]
        more = f", ... {len(names) - 6} more" if len(names) > 6 else ""
        recorded.add_row(what, ", ".join(names[:6]) + more, _rhythm(entry.get("ticks")))
    first, note = list(found["first_arrival"].items()), found["first_arrival_note"]
    arrivals = columns("vertex", "first tick")
    for name, tick in first[:MOST_ROWS]:
        arrivals.add_row(name, (NO_TICK if note == NO_TICK else "never") if tick is None else str(tick))
    if len(first) > MOST_ROWS:
        arrivals.add_row(f"... {len(first) - MOST_ROWS} more: --json")
    tables = _ended_early(found["ended"], found["recorded"]) + titled("what was recorded", recorded)
    title = "when the error first differed from exactly zero" + (f" ({note})" if note else "")
    return tables + (titled(title, arrivals) if first else [])


def _ended_early(end: dict[str, Any], recorded: dict[str, Any]) -> list[Any]:
    """Return what is to know of a run that did not come to its end; nothing of one that did."""
    if end["status"] == "done":
        return []
    if end["status"] == "running":
        said = "this run has not said how it ended: it goes on, or was killed, or its disk is full"
    else:
        how = "was interrupted" if end["status"] == "interrupted" else end["status"]
        said = f"this run {how} after {end['ticks']} of {end['horizon']} ticks: {end['stop_reason']}"
    wanted = [entry["ticks"] for entry in recorded.values() if entry["ticks"]]
    last = max((ticks["last"] for ticks in wanted if ticks["count"]), default=None)
    if wanted:
        said += "; no tick of what it recorded is kept" if last is None else f"; recorded until tick {last}"
    return [Text(f"note: {said}", style="yellow")]


def _rhythm(ticks: Any) -> str:
    if ticks is None:
        return "at the end"
    if not ticks["count"]:
        return "none"
    return f"{ticks['first']} to {ticks['last']}" + (f", every {ticks['every']}" if ticks["every"] > 1 else "")


def comparison_tables(found: Comparison) -> list[Any]:
    """Return a comparison as tables for people: the verdict, then what differs, largest differences first."""
    heads = columns("", "first run", "second run")
    for key, (a, b) in found.runs.items():
        heads.add_row(key.replace("_", " "), str(a), str(b))
    table = columns("quantity", "name", "largest difference", "relative", "first differs at tick", "note")
    rows = [*found.largest, *(row for row in found.rows if row.absolute is None)]
    for row in rows[:MOST_ROWS]:
        since = "" if row.tick is None else str(row.tick)
        what = f"{row.what} ({row.kind})" if row.kind else row.what
        table.add_row(what, row.name or "", number(row.absolute), number(row.relative), since, row.note)
    if len(rows) > MOST_ROWS:
        table.add_row("...", f"{len(rows) - MOST_ROWS} more: --json")
    return [Text(found.verdict, style="bold"), heads, *([table] if rows else [])]

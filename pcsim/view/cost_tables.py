"""What an update costs, as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.view.text import add_rows, columns, notes, number, titled

if TYPE_CHECKING:
    from pcsim.claims.cost_report import CostReport
    from pcsim.claims.costing import Row


def cost_tables(found: CostReport) -> list[Any]:
    """Return the tables of a report, and what it assumes."""
    facts = found.facts
    measured = "ticks as measured" if facts["measured"] else "ticks as given"
    return [
        *titled(f"{facts['title'] or 'cost'}: multiply-adds of each actor, batch {facts['batch']}", _actors(found)),
        "a tick: its multiply-adds, its other operations, and the bytes that it moves",
        *titled("messages of a tick", _edges(found)),
        *titled(f"operations, on one processor (work) and one for each actor (span); {measured}", _times(found)),
        *titled(
            "time with p processors over backprop on one, by a list schedule (Brent's bounds: --json)",
            _processors(found),
        ),
        *titled("bounds of Zahid et al. 2023, in operations: C forward, 2 C back", _bounds(found)),
        *titled(f"placements on a mesh, one sample of {facts['rule']}", _placements(found)),
        *titled(f"energy and latency of an update, one sample; placement {facts['placement']}", _ranking(found)),
        *titled("constants within 25 % of their value that turn an order", _turns(found)),
        "this is a model; it assumes:",
        *(f"- {text}" for text in found.assumptions),
        "constants and their sources: pcsim list constants",
        *notes(row["why"] for row in found.placements if row["why"]),
    ]


def _actors(found: CostReport) -> Any:
    table = columns("actor", "op", "units", "forward", "back", "a tick", "others", "bytes")
    keys = ("forward_multiply_adds", "back_multiply_adds", "tick_multiply_adds", "tick_other", "tick_bytes")
    rows = [
        (row["actor"], row["op"], f"{row['units']:,}", *(f"{row[key]:,.0f}" for key in keys)) for row in found.actors
    ]
    return add_rows(table, rows)


def _edges(found: CostReport) -> Any:
    table = columns("edge", "numbers", "value bytes", "error bytes", "delays", "hops")
    keys = ("numbers", "value_bytes", "error_bytes")
    rows = [
        (row["edge"], *(f"{row[key]:,}" for key in keys), f"{row['value_delay']}, {row['error_delay']}",
         str(row["hops"]))
        for row in found.edges
    ]  # fmt: skip
    return add_rows(table, rows)


def _times(found: CostReport) -> Any:
    table = columns("method", "ticks", "work", "span", "span / backprop's work", "/ its span")
    rows = [
        (row["method"], _ticks(row), *(_known(row[key]) for key in ("work", "span")),
         *(_known(row[f"span_over_backprop_{part}"]) for part in ("work", "span")))
        for row in found.times
    ]  # fmt: skip
    return add_rows(table, rows)


def _ticks(row: Row) -> str:
    return row["why"] or ("-" if row["ticks"] is None else f"{row['ticks']:,}")


def _known(value: float | None) -> str:
    return "not known" if value is None else number(value)


def _processors(found: CostReport) -> Any:
    counts = list(dict.fromkeys(row["processors"] for row in found.processors))
    times = {(row["method"], row["processors"]): row["scheduled"] for row in found.processors}
    one = found.times[0]["work"]
    table = columns("method", *(f"p = {count}" for count in counts))
    methods = dict.fromkeys(method for method, _ in times)
    return add_rows(table, [(method, *(f"{times[method, p] / one:.3g}" for p in counts)) for method in methods])


def _bounds(found: CostReport) -> Any:
    table = columns(
        "method", "levels", "ticks", "eq. 3.28, these ticks", "eq. 3.30, as many as levels", "eq. 3.31, 2.6"
    )
    rows = [
        (row["method"], str(row["levels"]), _known(row["ticks"]),
         *(_known(row[key]) for key in ("converged", "shortest", "backprop")))
        for row in found.bounds
    ]  # fmt: skip
    return add_rows(table, rows)


def _placements(found: CostReport) -> Any:
    table = columns(
        "hardware", "placement", "cores", "tiles", "hops, mean", "most", "us a tick", "nJ a tick", "us, update"
    )
    rows = [
        (row["hardware"], row["placement"], str(row["cores"]), str(row["tiles"]), number(row["mean_hops"]),
         str(row["most_hops"]), _amount(row["tick_seconds"] * 1e6), _amount(row["tick_joules"] * 1e9),
         _amount(row["update_seconds"] * 1e6) if "update_seconds" in row else "not known")
        for row in found.placements
        if not row["why"]
    ]  # fmt: skip
    return add_rows(table, rows)


def _ranking(found: CostReport) -> Any:
    table = columns("rank", "method", "hardware", "ticks", "nJ", "mostly", "us", "rank, us")
    rows = [
        (str(row["energy_rank"]), row["method"], row["hardware"], "-" if row["ticks"] is None else f"{row['ticks']:,}",
         _amount(row["joules"] * 1e9), _most(row), _amount(row["seconds"] * 1e6), str(row["latency_rank"]))
        for row in found.ranking
    ]  # fmt: skip
    return add_rows(table, rows)


def _amount(value: float) -> str:
    """Return a number with three digits at least, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _most(row: Row) -> str:
    """Return the largest part of the energy."""
    part = max(row["parts"], key=row["parts"].get)
    return f"{part} {row['parts'][part] / row['joules']:.0%}"


def _turns(found: CostReport) -> Any:
    table = columns("order", "constant", "times", "then this one", "is before")
    rows = [
        (row["order"], f"{row['device']}.{row['constant']}", f"{row['factor']:.3f}", row["passes"], row["passed"])
        for row in found.turns
    ]
    return add_rows(table, rows)

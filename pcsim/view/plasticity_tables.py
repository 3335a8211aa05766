"""What updates are made of, as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.view.text import add_rows, columns, titled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.claims.plasticity_report import PlasticityReport, Row


def plasticity_tables(found: PlasticityReport) -> list[Any]:
    """Return the tables of a report."""
    facts = found.facts
    title = (
        f"{facts['title'] or 'plasticity'}: rule {facts['rule']}, {facts['ticks']:,} ticks, engine {facts['engine']}"
    )
    rows = [(kind, f"{facts['parameters'][kind]:,}", f"{facts['numbers'][kind]:,}") for kind in facts["parameters"]]
    shared = [row for row in found.parameters if row["site_cosine"] is not None]
    return [
        *titled(title, add_rows(columns("update", "parameters", "numbers"), rows)),
        *titled("each parameter, and its update built again from its factors", _parameters(found.parameters)),
        *(titled("summed over sites, beside what each site would learn alone", _sites(shared)) if shared else []),
        *titled("correlation of presynaptic value with what follows, root mean square over synapses", _ticks(found)),
    ]


def _parameters(rows: Sequence[Row]) -> Any:
    table = columns("parameter", "numbers", "update", "why", "sites", "difference")
    return add_rows(table, [
        (row["parameter"], f"{row['numbers']:,}", row["plasticity"], row["why"], _count(row["sites"]),
         _known(row["difference"]))
        for row in rows
    ])  # fmt: skip


def _sites(rows: Sequence[Row]) -> Any:
    table = columns("parameter", "sites", "norm, each site its own", "norm of the sum", "cosine, site and sum")
    return add_rows(table, [
        (row["parameter"], _count(row["sites"]), *(_known(row[key]) for key in
         ("unshared_norm", "shared_norm", "site_cosine")))
        for row in rows
    ])  # fmt: skip


def _ticks(found: PlasticityReport) -> Any:
    """Return correlations at the first, the middle and the last tick that was looked at."""
    table = columns("parameter", "tick", "with value after", "with error after")
    rows: list[Row] = []
    for name in dict.fromkeys(row["parameter"] for row in found.ticks):
        mine = [row for row in found.ticks if row["parameter"] == name]
        rows += [mine[k] for k in dict.fromkeys((0, len(mine) // 2, len(mine) - 1))]
    return add_rows(table, [
        (row["parameter"], str(row["tick"]), _known(row["with_value"]), _known(row["with_error"])) for row in rows
    ])  # fmt: skip


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _known(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"

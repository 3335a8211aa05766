"""What is advised before a run, as a table and sentences for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.view.text import add_rows, columns

if TYPE_CHECKING:
    from pcsim.claims.advice import Advice


def advice_tables(found: Advice) -> list[Any]:
    """Return the figures of an advice, and what it says."""
    table = columns("", "this run", "fastest")
    now = "after the run" if found.ticks is not None and found.ticks >= found.horizon else ""
    rows = [
        ("verdict", found.verdict, ""),
        ("step size", f"{found.step_size:g}", _known(found.fastest_step)),
        ("stable below", _known(found.stable_below), ""),
        ("ticks", f"{_whole(found.ticks)} {now}".strip(), _whole(found.fastest_ticks)),
        ("factor a tick", _known(found.factor, 6), ""),
        ("swings in ticks", _known(found.period), ""),
    ]
    return [
        f"{found.rule}: within {found.tolerance:g} of the limit",
        add_rows(table, rows),
        *(f"- {text}" for text in found.says),
    ]


def _known(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def _whole(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"

"""The ledger of a tick as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.text import Text

from pcsim.run.numbers import AGAIN, FROM
from pcsim.view.text import columns, number, titled

if TYPE_CHECKING:
    from rich.table import Table

    from pcsim.run.ledger import Ledger, Message
    from pcsim.run.numbers import Line

MOST_MESSAGES = 60
FEW = 12
"""Numbers of one sample that are still shown one by one."""


def ledger_tables(ledger: Ledger) -> list[Any]:
    """Return what arrived at a vertex in a tick, and what it made of it."""
    level = "reaches no output" if ledger.level is None else f"level {ledger.level}"
    shape = f"shape {list(ledger.shape)}, batch {ledger.batch}"
    tables: list[Any] = [Text(f"{ledger.vertex} at tick {ledger.tick}: {ledger.op}, {ledger.role}, {shape}, {level}")]
    tables[0].stylize("bold")
    if ledger.inbox:
        tables += titled("what arrived", _inbox(ledger.inbox))
    tables += titled("what the vertex made of it", _lines(ledger.lines))
    tables += _numbers(ledger)
    notes = [Text(f"note: {text}", style="yellow") for text in ledger.notes]
    return [*tables, Text(_verdict(ledger)), *_origins(ledger), *notes]


def _inbox(inbox: tuple[Message, ...]) -> Table:
    table = columns("message", "from", "sent at", "norm", "minimum", "maximum")
    for message in inbox[:MOST_MESSAGES]:
        before = "before 0 (feedforward)" if message.kind == "value" else "before 0 (none)"
        sent = str(message.sent) if message.sent >= 0 else before
        table.add_row(_title(message), message.sender, sent, *_extent(message.contents))
    if len(inbox) > MOST_MESSAGES:
        table.add_row(f"... {len(inbox) - MOST_MESSAGES} more: --json")
    return table


def _title(message: Message) -> str:
    return f"{message.kind} {message.edge}"


def _lines(lines: tuple[Line, ...]) -> Table:
    table = columns("", "what it is", "norm", "minimum", "maximum")
    for line in lines:
        table.add_row(line.name, line.note, *_extent(line))
    return table


def _extent(line: Line) -> list[str]:
    """Return norm, minimum and maximum; a star marks what was not recorded."""
    if line.numbers is None:
        return ["not known", "", ""]
    star = "*" if line.origin == AGAIN else ""
    norm = number(float(np.linalg.norm(line.numbers.astype(float).ravel()))) + star
    return [norm, *(number(float(end(line.numbers))) if line.numbers.size else "" for end in (np.min, np.max))]


def _numbers(ledger: Ledger) -> list[Any]:
    """Return the numbers of the first sample, where there are few."""
    named = [(_title(message), message.contents) for message in ledger.inbox[:MOST_MESSAGES]]
    shown = [
        (name, line.numbers[0])
        for name, line in [*named, *((line.name, line) for line in ledger.lines)]
        if line.numbers is not None and 0 < line.numbers[0].size <= FEW
    ]
    if not shown:
        return []
    table = columns("", "numbers")
    for name, numbers in shown:
        table.add_row(name, " ".join(f"{value:.4g}" for value in np.ravel(numbers)))
    return titled("numbers" if ledger.batch == 1 else f"numbers of sample 0 of {ledger.batch}", table)


def _verdict(ledger: Ledger) -> str:
    if ledger.residual is None:
        return "not all numbers are known: the sum cannot be checked"
    if not ledger.adds_up:
        return f"value after - value before differs from the change by {ledger.residual:.2g}"
    return "value after = value before + change" + (
        f", but for rounding ({ledger.residual:.0e})" * bool(ledger.residual)
    )


def _origins(ledger: Ledger) -> list[Text]:
    """Return where numbers are from that were not recorded."""
    lines = [*(message.contents for message in ledger.inbox), *ledger.lines]
    again = any(line.origin == AGAIN and line.numbers is not None for line in lines)
    missing = dict.fromkeys(line.origin for line in lines if line.numbers is None and line.origin != FROM)
    return [
        *([Text("* not recorded: the run was computed again from its scenario")] if again else []),
        *(Text(text, style="yellow") for text in missing),
    ]

"""Which errors need not be sent as messages, where they lie instead, and who receives them in which order."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pcsim.engines.jit.kernels.flow import FLOW, NEGATED, RECEIVER, SENT, SLOPED, TERM
from pcsim.engines.jit.kernels.native import address_of
from pcsim.engines.jit.kernels.squares import SHORT
from pcsim.engines.jit.kinds import KINDS
from pcsim.engines.jit.terms import NOWHERE, Term

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.arrays import Shape
    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.terms import InPlace
    from pcsim.program.program import Program, Step


def flows(program: Program) -> bool:
    """Return whether a program is simple enough: no precision, no late message, no messages summed by a kernel."""
    unit = all(group.precision is None for group in program.groups.values())
    prompt = not any(len(inbox.late) for inbox in program.inboxes.values())
    rows = (KINDS.get(step.op.name) for step in program.steps)
    return unit and prompt and not any(kind is not None and kind.remembers for kind in rows)


def in_place(layout: Layout, step: Step) -> InPlace | None:
    """Return how what a step sends can be had without being written down; None where it must be."""
    if id(step) in layout.array_steps or any(slot.is_parameter or slot.shape != step.shape for slot in step.slots):
        return None
    return KINDS[step.op.name].in_place(layout, step)


def unwritten(layout: Layout, step: Step) -> bool:
    """Return whether what a step sends need not be written down in a block of ticks."""
    return in_place(layout, step) is not None


def lay_out(layout: Layout) -> tuple[int, int]:
    """Write the operands of ``flow`` for all free vertices, in the order of the graph; return place and count."""
    program, table = layout.arrays.program, layout.table
    received = {(shape, number): term for shape in program.inboxes for number, term in _terms(layout, shape)}
    receivers: list[dict[str, int]] = []
    terms: list[Term] = []
    for shape, row in _in_order(layout):
        first = len(terms)
        terms += _received(layout, received, shape, row)
        receivers.append(_receiver(layout, shape, row, terms, first))
    outputs = [
        layout.first[shape] + row for shape, group in program.groups.items() for row in range(group.free, group.active)
    ]
    place = table.write(
        FLOW,
        "all",
        count=len(receivers),
        receivers=layout.listed(RECEIVER, "all", receivers),
        terms=layout.listed(TERM, "all", [vars(term) for term in terms]),
        notes=int(not layout.moving),
        output_count=len(outputs),
        outputs=table.add(outputs),
    )
    return place, len(receivers)


def _in_order(layout: Layout) -> Iterator[tuple[Shape, int]]:
    """Return shape and row of the free vertices, each before those that it sends values to."""
    graph, location = layout.arrays.program.graph, layout.arrays.program.location
    return (location[name] for name in graph.active if graph.role(name) == "free")


def _received(layout: Layout, received: dict[tuple[Shape, int], Term], shape: Shape, row: int) -> list[Term]:
    """Return what a vertex receives, in the order of its sum; what a kernel sums is one message."""
    inbox = layout.arrays.program.inboxes.get(shape)
    if inbox is None:
        return []
    found = []
    for number in inbox.order[inbox.starts[row] : inbox.starts[row + 1]].tolist():
        one = layout.summed.get(shape, {}).get(number)
        if one is None:
            found.append(_with_slope(layout, shape, received[shape, number]))
        elif number == one.messages[0]:
            found.append(_with_slope(layout, shape, Term(SENT, one.target, sender=one.number)))
    return found


def _with_slope(layout: Layout, shape: Shape, term: Term) -> Term:
    """Return a term with slopes of 1 or -1 if it has none, where a row is short and predictions are fixed."""
    if term.kind > NEGATED or layout.batch * prod(shape) > SHORT or layout.moving:
        return term
    slope = layout.memory.many(-1 if term.kind == NEGATED else 1, SHORT)
    return Term(SLOPED, term.error, slope, sender=term.sender, by_move=term.by_move)


def _receiver(layout: Layout, shape: Shape, row: int, terms: list[Term], first: int) -> dict[str, int]:
    """Return the record of a vertex that receives the terms from ``first`` on."""
    units, stride = layout.arrays.units[shape], layout.batch * prod(shape)
    moving, count = layout.moving, len(terms) - first
    brief = not moving and count <= 2 and all(term.kind == SLOPED for term in terms[first:])
    keep, gain = layout.factors[shape]
    return {
        "vertex": layout.first[shape] + row,
        "size": prod(shape),
        "deviation": address_of(units.deviation) + row * stride,
        "shift": address_of(units.shift) + row * stride if moving else NOWHERE,
        "value": address_of(units.value) + row * stride if moving else NOWHERE,
        "start": address_of(units.start) + row * stride,
        "keep": address_of(keep) + row,
        "gain": address_of(gain) + row,
        "first": first,
        "last": len(terms),
        "brief": count if brief else 0,
    }


def _terms(layout: Layout, shape: Shape) -> Iterator[tuple[int, Term]]:
    """Return each message to a shape group and the term that stands for it."""
    for step in layout.arrays.program.steps:
        how, senders = in_place(layout, step), layout.vertices(step)
        for number, slot in enumerate(step.slots):
            if slot.messages is None or slot.shape != shape:
                continue
            sent = layout.message(shape, slot.messages).tolist()
            for row, message in enumerate(range(slot.messages.start, slot.messages.stop)):
                if how is None:
                    yield message, Term(SENT, sent[row], sender=int(senders[row]))
                else:
                    yield message, _unwritten(layout, step, row, how(row, number))


def _unwritten(layout: Layout, step: Step, row: int, product: tuple[int, int, int]) -> Term:
    """Return what a vertex sends as the product of what lies somewhere."""
    kind, slope, weight = product
    place = step.rows.start + row
    error = address_of(layout.arrays.units[step.shape].error) + place * layout.batch * prod(step.shape)
    return Term(kind, error, slope, weight, layout.first[step.shape] + place, int(not layout.moving))

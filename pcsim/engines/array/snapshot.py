"""The state of an array session, taken out between two ticks and put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.state import State, past

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.arrays import Array, Shape
    from pcsim.engines.array.session import ArraySession
    from pcsim.graph.graph import Edge
    from pcsim.program.program import Program

Arrays = dict[str, np.ndarray]


def snapshot(session: ArraySession, engine: str) -> State:
    """Return the state before the next tick; arrays are copies on the host."""
    task, tick = session.task, session.next_tick
    return State(
        tick,
        dict(_deviations(session)),
        dict(_values(session, tick)),
        dict(_errors(session, tick)),
        _copied(session.parameters()),
        _copied(session.updates()),
        _copied(session.by_name(session.applied)) if session.applied else {},
        session.fired(),
        session.frozen(),
        task.seed,
        task.batch_number,
        engine,
        dict(_private(session)),
    )


def restore(session: ArraySession, state: State, engine: str) -> None:
    """Put a state into a session that has just begun; what it kept of another engine is not needed."""
    session.next_tick = state.tick
    program, own = session.program, state.own(engine)
    for shape, group in program.groups.items():
        for row, name in enumerate(group.names[: group.active]):
            session.units[shape].deviation[row] = session.xp.asarray(state.deviations[name])
    _put_values(session, state)
    _put_errors(session, state)
    for shape, names in program.parameters.items():
        _put_parameters(session, shape, names, state)
    for step in program.steps:
        session.fire_ticks[id(step)][...] = [state.fired.get(name, -1) for name in step.names]
        session.waiting[id(step)][...] = True
    session.frozen_at.update(state.frozen)
    for key, array in _kept(session):
        if key in own:
            array[...] = session.xp.asarray(own[key])
    if not own:  # what stands still was worked out elsewhere: work it out here
        session.follow_every_row()


def one(line: int) -> slice:
    """Return one line as what indexes lines."""
    return slice(line, line + 1)


def _copied(found: Arrays) -> Arrays:
    return {name: np.array(array) for name, array in found.items()}


def _deviations(session: ArraySession) -> Iterator[tuple[str, np.ndarray]]:
    for shape, group in session.program.groups.items():
        rows = session.memory.host(session.units[shape].deviation)
        yield from ((name, np.array(rows[row])) for row, name in enumerate(group.names[: group.active]))


def _histories(program: Program) -> Iterator[tuple[Shape, int, str, int]]:
    """Yield shape, line, vertex and length of each line of past values."""
    for shape, history in program.histories.items():
        names, lengths = program.groups[shape].names, history.delay_buffer.length
        yield from ((shape, line, names[row], int(lengths[line])) for line, row in enumerate(history.rows))


def _values(session: ArraySession, tick: int) -> Iterator[tuple[str, np.ndarray]]:
    host = {shape: session.memory.host(array) for shape, array in session.histories.items()}
    for shape, line, name, length in _histories(session.program):
        buffer = session.program.histories[shape].delay_buffer
        rows = [int(buffer.at(tick - length + k, one(line))[0]) for k in range(length)]
        yield name, np.array(host[shape][rows])


def _put_values(session: ArraySession, state: State) -> None:
    for shape, line, name, length in _histories(session.program):
        buffer = session.program.histories[shape].delay_buffer
        found = past(state.values.get(name), length, state.deviations[name])
        for k in range(length):
            session.histories[shape][int(buffer.at(state.tick - length + k, one(line))[0])] = session.xp.asarray(
                found[k]
            )


def _lines(program: Program) -> Iterator[tuple[Shape, int, Edge, int]]:
    """Yield shape, line, edge and length of each line of late error messages."""
    for shape, inbox in program.inboxes.items():
        for line, number in enumerate(inbox.late):
            yield shape, line, inbox.edges[number], int(inbox.delay_buffer.length[line])


def _errors(session: ArraySession, tick: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each edge's messages under way; where only changes are written down, what has not changed stands."""
    lines, arrived = (
        {shape: session.memory.host(arrays[shape]) for shape in session.lines}
        for arrays in (session.lines, session.messages)
    )
    for shape, line, edge, length in _lines(session.program):
        inbox = session.program.inboxes[shape]
        standing, found = arrived[shape][inbox.late[line]], []
        for k in range(length):
            if session.plans.sends(edge.post, tick + k - length):
                standing = lines[shape][int(inbox.delay_buffer.at(tick + k, one(line))[0])]
            found.append(standing)
        yield edge.name, np.stack(found)


def _put_errors(session: ArraySession, state: State) -> None:
    for shape, line, edge, length in _lines(session.program):
        buffer = session.program.inboxes[shape].delay_buffer
        for k in range(length):
            session.lines[shape][int(buffer.at(state.tick + k, one(line))[0])] = session.xp.asarray(
                state.errors[edge.name][k]
            )


def _put_parameters(session: ArraySession, shape: Shape, names: tuple[str, ...], state: State) -> None:
    xp = session.xp
    for row, name in enumerate(names):
        session.theta[shape][row] = xp.asarray(state.parameters[name])
    for kept, arrays in ((session.learnt, state.updates), (session.applied, state.applied)):
        if arrays and any(arrays[name].any() for name in names):
            kept[shape] = xp.stack([xp.asarray(arrays[name]) for name in names])


def _kept(session: ArraySession) -> Iterator[tuple[str, Array]]:
    """Yield the messages that stand where nothing new is sent, by a name of their own."""
    for number, shape in enumerate(session.program.inboxes):
        yield f"messages/{number}", session.messages[shape]


def _private(session: ArraySession) -> Iterator[tuple[str, Any]]:
    for key, array in _kept(session):
        yield key, np.array(session.memory.host(array))

"""The state of an array arrays, taken out between two ticks and put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.state import CHANNELS, State, past, starts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pcsim.arrays import Array, Shape
    from pcsim.engines.array.array_state import ArrayState
    from pcsim.graph.graph import Edge
    from pcsim.program.program import Program

Arrays = dict[str, np.ndarray]


def snapshot(arrays: ArrayState, engine: str, sends: Callable[[str, int], bool]) -> State:
    """Return the state before the next tick; arrays are copies on the host.

    ``sends`` is (vertex, tick) -> whether its messages of that tick were written down, or stayed as they were.
    """
    task, tick = arrays.task, arrays.next_tick
    return State(
        tick,
        dict(_deviations(arrays)),
        dict(_values(arrays, tick)),
        dict(_errors(arrays, tick, sends)),
        _copied(arrays.parameters()),
        _copied(arrays.updates()),
        _copied(arrays.learnt_of(arrays.applied)) if arrays.applied else {},
        arrays.fired(),
        arrays.frozen(),
        task.seed,
        task.batch_number,
        engine,
        dict(_private(arrays)),
        dict(_multipliers(arrays)),
        starts=starts(task),
        **_channels(arrays, tick),
    )


def restore(arrays: ArrayState, state: State, engine: str) -> bool:
    """Put a state into arrays of a run that has just begun.

    Return whether the state is this engine's own; if not, every row must be worked out from now on.
    """
    arrays.next_tick = state.tick
    program, own = arrays.program, state.own(engine)
    for shape, group in program.groups.items():
        for row, name in enumerate(group.names[: group.active]):
            arrays.units[shape].deviation[row] = arrays.xp.asarray(state.deviations[name])
            if name in state.multipliers:
                arrays.units[shape].multiplier[row] = arrays.xp.asarray(state.multipliers[name])
    _put_values(arrays, state)
    _put_errors(arrays, state)
    for (kind, _), lines in arrays.channels.items():
        for place, one in enumerate(lines.crossings):
            lines.put(place, state.tick, getattr(state, CHANNELS[kind])[one.edge.name])
    for shape, names in program.parameters.items():
        _put_parameters(arrays, shape, names, state)
    for step in program.steps:
        arrays.fire_ticks[id(step)][...] = [state.fired.get(name, -1) for name in step.names]
        arrays.waiting[id(step)][...] = True
    arrays.frozen_at.update(state.frozen)
    for key, array in _kept(arrays):
        if key in own:
            array[...] = arrays.xp.asarray(own[key])
    return bool(own) or not list(_kept(arrays))


def one(line: int) -> slice:
    """Return one line as what indexes lines."""
    return slice(line, line + 1)


def _copied(found: Arrays) -> Arrays:
    return {name: np.array(array) for name, array in found.items()}


def _deviations(arrays: ArrayState) -> Iterator[tuple[str, np.ndarray]]:
    for shape, group in arrays.program.groups.items():
        rows = arrays.memory.host(arrays.units[shape].deviation)
        yield from ((name, np.array(rows[row])) for row, name in enumerate(group.names[: group.active]))


def _multipliers(arrays: ArrayState) -> Iterator[tuple[str, np.ndarray]]:
    for shape, group in arrays.program.groups.items() if arrays.rule.keeps_multipliers else ():
        rows = arrays.memory.host(arrays.units[shape].multiplier)
        yield from ((name, np.array(rows[row])) for row, name in enumerate(group.names[: group.free]))


def _channels(arrays: ArrayState, tick: int) -> dict[str, Arrays]:
    found: dict[str, Arrays] = {key: {} for key in CHANNELS.values()}
    for (kind, _), lines in arrays.channels.items():
        found[CHANNELS[kind]].update(
            {one.edge.name: lines.saved(place, tick) for place, one in enumerate(lines.crossings)}
        )
    return found


def _histories(program: Program) -> Iterator[tuple[Shape, int, str, int]]:
    """Yield shape, line, vertex and length of each line of past values."""
    for shape, history in program.histories.items():
        names, lengths = program.groups[shape].names, history.delay_buffer.length
        yield from ((shape, line, names[row], int(lengths[line])) for line, row in enumerate(history.rows))


def _values(arrays: ArrayState, tick: int) -> Iterator[tuple[str, np.ndarray]]:
    host = {shape: arrays.memory.host(array) for shape, array in arrays.histories.items()}
    for shape, line, name, length in _histories(arrays.program):
        buffer = arrays.program.histories[shape].delay_buffer
        rows = [int(buffer.at(tick - length + k, one(line))[0]) for k in range(length)]
        yield name, np.array(host[shape][rows])


def _put_values(arrays: ArrayState, state: State) -> None:
    for shape, line, name, length in _histories(arrays.program):
        buffer = arrays.program.histories[shape].delay_buffer
        found = past(state.values.get(name), length, state.deviations[name])
        for k in range(length):
            arrays.histories[shape][int(buffer.at(state.tick - length + k, one(line))[0])] = arrays.xp.asarray(found[k])


def _lines(program: Program) -> Iterator[tuple[Shape, int, Edge, int]]:
    """Yield shape, line, edge and length of each line of late error messages."""
    for shape, inbox in program.inboxes.items():
        for line, number in enumerate(inbox.late):
            yield shape, line, inbox.edges[number], int(inbox.delay_buffer.length[line])


def _errors(arrays: ArrayState, tick: int, sends: Callable[[str, int], bool]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each edge's messages under way; where only changes are written down, what has not changed stands."""
    lines, arrived = (
        {shape: arrays.memory.host(found[shape]) for shape in arrays.lines} for found in (arrays.lines, arrays.messages)
    )
    for shape, line, edge, length in _lines(arrays.program):
        inbox = arrays.program.inboxes[shape]
        standing, found = arrived[shape][inbox.late[line]], []
        for k in range(length):
            if sends(edge.post, tick + k - length):
                standing = lines[shape][int(inbox.delay_buffer.at(tick + k, one(line))[0])]
            found.append(standing)
        yield edge.name, np.stack(found)


def _put_errors(arrays: ArrayState, state: State) -> None:
    for shape, line, edge, length in _lines(arrays.program):
        buffer = arrays.program.inboxes[shape].delay_buffer
        for k in range(length):
            sent = arrays.xp.asarray(state.errors[edge.name][k])
            arrays.lines[shape][int(buffer.at(state.tick + k, one(line))[0])] = sent


def _put_parameters(arrays: ArrayState, shape: Shape, names: tuple[str, ...], state: State) -> None:
    xp = arrays.xp
    for row, name in enumerate(names):
        arrays.theta[shape][row] = xp.asarray(state.parameters[name])
    for kept, found in ((arrays.learnt, state.updates), (arrays.applied, state.applied)):
        if found and any(found[name].any() for name in names):
            kept[shape] = xp.stack([xp.asarray(found[name]) for name in names])


def _kept(arrays: ArrayState) -> Iterator[tuple[str, Array]]:
    """Yield the messages that stand where nothing new is sent, by a name of their own."""
    for number, shape in enumerate(arrays.program.inboxes):
        yield f"messages/{number}", arrays.messages[shape]


def _private(arrays: ArrayState) -> Iterator[tuple[str, Any]]:
    for key, array in _kept(arrays):
        yield key, np.array(arrays.memory.host(array))

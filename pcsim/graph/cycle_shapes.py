"""The shapes of vertices on cycles, each of which would wait for the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.graph.order import natural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pcsim.arrays import Shape


def shapes_on_cycles(
    inputs: Mapping[str, Sequence[str]],
    known: Callable[[str], Shape | None],
    shape_of: Callable[[str, tuple[Shape, ...]], Shape | None],
) -> dict[str, Shape]:
    """Return the shapes of vertices on cycles, as far as they follow from what is known.

    A vertex with an input that is not known has the shape that its op makes of inputs of any extent, as an affine one
    with ``units`` has; else, where no other can go on, the shape that it has if such an input is like one that is
    known. Whoever makes the vertices checks that these fit.

    Parameters
    ----------
    inputs : {vertex on a cycle: where its inputs come from}
    known : the shape of a vertex, None where it is not known yet
    shape_of : the shape of a vertex with inputs of these shapes, None where they do not fit
    """
    found: dict[str, Shape] = {}

    def seen(name: str) -> Shape | None:
        return found[name] if name in found else known(name)

    while True:
        waiting = [name for name in sorted(inputs, key=natural) if name not in found]
        ways = (_all_known, _of_any_extent, _like_another)
        tries = ((name, way([seen(pre) for pre in inputs[name]])) for way in ways for name in waiting)
        step = next(((name, shape) for name, tried in tries if (shape := _one(name, tried, shape_of))), None)
        if step is None:
            return found
        found[step[0]] = step[1]


Tried = list[tuple["Shape", ...]]


def _one(name: str, tried: Tried, shape_of: Callable[[str, tuple[Shape, ...]], Shape | None]) -> Shape | None:
    """Return the one shape that all inputs that are tried make."""
    shapes = {shape_of(name, shapes) for shapes in tried}
    return shapes.pop() if len(shapes) == 1 else None


def _all_known(shapes: list[Shape | None]) -> Tried:
    return [] if None in shapes else [tuple(shape for shape in shapes if shape is not None)]


def _of_any_extent(shapes: list[Shape | None]) -> Tried:
    return [tuple((extent,) if shape is None else shape for shape in shapes) for extent in (1, 2)]


def _like_another(shapes: list[Shape | None]) -> Tried:
    likes: Iterator[Shape] = (shape for shape in shapes if shape is not None)
    return [tuple(like if shape is None else shape for shape in shapes) for like in likes][:1]

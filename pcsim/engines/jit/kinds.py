"""The kernels: for each op one row, which says all that the rest of the engine must know of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import inf, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.array.rows import indices
from pcsim.engines.base import clamped
from pcsim.engines.jit import bundles, projections, sliding_windows, terms
from pcsim.engines.jit.kernels import convolution, dense, elements, loss_errors, pooling, population, shapes, weighted
from pcsim.engines.jit.kernels.functions import FUNCTIONS, activation
from pcsim.engines.jit.kernels.native import address_of
from pcsim.engines.jit.kernels.products import packed_size
from pcsim.ops.elementwise import UNARY
from pcsim.ops.linear import INNER

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcsim.engines.array.array_state import ArrayState
    from pcsim.engines.base import Task
    from pcsim.engines.jit.kernels.records import Record
    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.table import WholeNumbers
    from pcsim.engines.jit.terms import InPlace
    from pcsim.ops.op import Call
    from pcsim.program.program import ParameterSlot, Slot, Step


def one_each(call: Call) -> int:
    """Return that one number is kept for each element: a slope."""
    return prod(call.shape)


@dataclass(frozen=True)
class Kind:
    """How steps of one op are run.

    Attributes
    ----------
    kernel : the compiled function that predicts and sends
    operands : (layout, step) -> the place of what only this kernel knows
    saved : (call) -> numbers that are kept for each sample until errors are sent
    refuses : (task, step) -> why the kernel does not suit a step; empty if it does
    index_map : (step, slot) -> which element goes with which, where a slot needs to know; None where it does not
    in_place : (layout, step) -> how what it sends can be had without being written down; None if it cannot
    by_weight : the kernel by which slices of weights learn, where there is one
    learner : the record that lists who contributes to which weight, where there is such a kernel
    by_neuron : the kernel by which blocks of neurons learn, where there is one
    remembers : whether its errors and late values are kept in delay buffers of its own, and its messages summed
    """

    kernel: Any
    operands: Callable[[Layout, Step], int]
    saved: Callable[[Call], int] = one_each
    refuses: Callable[[Task, Step], str] = lambda _task, _step: ""
    index_map: Callable[[Step, int], WholeNumbers | None] = lambda _step, _slot: None
    in_place: Callable[[Layout, Step], InPlace | None] = lambda _layout, _step: None
    by_weight: Any = None
    learner: Record = dense.LAYER
    by_neuron: Any = None
    remembers: bool = False


def why_no_kernel(arrays: ArrayState, step: Step) -> str:
    """Return why a step is one array call and not a kernel; empty if it has one."""
    task, kind = arrays.task, KINDS.get(step.op.name)
    if kind is None:
        return f"op {step.op.name!r} has no kernel"
    if step.op.couples(step.call):
        return "its samples depend on each other"
    if not step.feedback.symmetric:
        return f"feedback {step.feedback.name!r} has no kernel"
    carried = {task.losses[name] for name in step.names if task.rule.moving and not clamped(task, name)}
    if unknown := sorted(carried - set(LOSS_KERNELS)):
        return f"loss {unknown[0]!r} has no kernel"
    return kind.refuses(task, step)


# -- what steps need of their own -------------------------------------------------------------------------


TAKEN = {"power": "exponent", "leaky_relu": "slope", "elu": "alpha", "clip": "max"}
"""The attribute that a kernel takes as its constant."""

FIXED: dict[str, dict[str, Any]] = {"clip": {"min": 0.0}}
"""Other attributes as a loop is written for them, where these are not their defaults."""


def attribute(step: Step) -> float:
    """Return the constant of an op, or of a layer's activation, at its default there; infinite where it is none."""
    given = dict(step.call.attributes)
    function = given.get("activation", step.op.name)
    if function not in TAKEN:
        return 0.0
    value = UNARY[function].attributes[TAKEN[function]].default if "activation" in given else given[TAKEN[function]]
    return inf if value is None else value


def nothing(*_: Any) -> int:
    """Return that nothing is kept, or that there are no operands."""
    return 0


def of_function(name: str, layout: Layout, step: Step) -> int:
    """Write the function, and room for a list of vertices."""
    listed = layout.table.add(np.zeros(len(step.names), np.int64))
    return layout.table.write(elements.UNARY, step.names[0], function=activation(name), listed=listed)


def of_affine(layout: Layout, step: Step) -> int:
    """Write the sizes of a layer and where its weights lie, packed for this step."""
    call, count, owner = step.call, len(step.names), step.names[0]
    units, fan_in = call["units"], call.shapes[0][-1]
    users, starts = (layout.table.add(np.zeros(count + extra, np.int64)) for extra in (0, 1))
    return layout.table.write(
        dense.LAYER,
        owner,
        samples=prod(call.shape[:-1]),
        fan_in=fan_in,
        units=units,
        function=activation(call["activation"]),
        inner=int(call["convention"] == INNER),
        vertices=layout.table.write(dense.LAYER_VERTEX, owner, **_layers(layout, step, units, fan_in)),
        users=users,
        starts=starts,
    )


def _layers(layout: Layout, step: Step, units: int, fan_in: int) -> dict[str, Any]:
    """Return what each vertex of a layer has of its own; equal weights are packed once."""
    slots, owner, arrays = {slot.name: slot for slot in step.parameters}, step.names[0], layout.arrays
    weight, bias = slots["weight"], slots.get("bias")
    count = len(step.names)
    used = used_of(weight, count)
    rows, which = np.unique(used, return_inverse=True)
    like = np.zeros(0, layout.dtype)
    there, back = packed_size(like, fan_in, units), packed_size(like, units, fan_in) if step.sends else 0
    forward = layout.memory.new(f"weights of {owner}, packed forward", len(rows) * there)
    backward = layout.memory.new(f"weights of {owner}, packed backward", len(rows) * back)
    for number, row in enumerate(rows.tolist()):
        weights = address_of(arrays.theta[weight.shape]) + row * units * fan_in
        places = address_of(forward) + number * there, address_of(backward) + number * back if back else -1
        layout.packing.append(_packing(layout, owner, weights, units, fan_in, places))
    return {
        "forward": address_of(forward) + which * there,
        "backward": address_of(backward) + which * back,
        "bias": -1 if bias is None else address_of(arrays.theta[bias.shape]) + used_of(bias, count) * units,
        "weight_learnt": address_of(layout.learnt(weight.shape)) + used * units * fan_in,
        "bias_learnt": -1 if bias is None else address_of(layout.learnt(bias.shape)) + used_of(bias, count) * units,
        "blank": layout.blanks(weight.shape) + used,
    }


def used_of(slot: ParameterSlot, count: int) -> WholeNumbers:
    """Return which parameter of its shape each vertex uses."""
    return np.broadcast_to(indices(slot.rows), count)


def _packing(
    layout: Layout, owner: str, weight: int, units: int, fan_in: int, places: tuple[int, int]
) -> tuple[int, int]:
    """Write how a weight is packed; return where, and how many panels it has in all."""
    width = packed_size(np.zeros(0, layout.dtype), 1, 1)
    forward, backward = places
    there, back = -(-units // width), -(-fan_in // width) if backward >= 0 else 0
    place = layout.table.write(
        dense.PACKING,
        owner,
        weight=weight,
        units=units,
        fan_in=fan_in,
        panels=there,
        forward=forward,
        backward=backward,
    )
    return place, there + back


def of_projection(layout: Layout, step: Step) -> int:
    """Write where the blocks, weights and delay buffers of a projection lie."""
    projection, own = projections.lay_out(layout, step, activation(step.call["activation"]))
    layout.projections[id(step)] = projection
    return own


def of_weighted_sum(layout: Layout, step: Step) -> int:
    """Write the activation, where weights and biases lie, and bundles."""
    arrays, count, owner = layout.arrays, len(step.names), step.names[0]
    slots = {slot.name: slot for slot in step.parameters}
    weights, biases = (
        address_of(arrays.theta[slot.shape]) + used_of(slot, count) * prod(slot.shape)
        for slot in (slots["weight"], slots.get("bias", slots["weight"]))
    )
    places = bundles.bundle(layout, step)
    vertices = layout.table.write(weighted.WEIGHTED_VERTEX, owner, weights=weights, bias=biases, bundle=places)
    function, biased = activation(step.call["activation"]), int("bias" in slots)
    return layout.table.write(weighted.WEIGHTED, owner, function=function, biased=biased, vertices=vertices)


def of_rearranged(layout: Layout, step: Step) -> int:
    """Write where the factor lies."""
    factor = layout.memory.constant(f"factor of {step.names[0]}", gathered(step, 0)[1])
    return layout.table.write(shapes.REARRANGED, step.names[0], factor=factor)


def gathered(step: Step, slot: int) -> tuple[WholeNumbers, float]:
    """Return which element of the vertex each element of an input is added to (-1: none), and the factor.

    A linear op shows it by what it sends back.
    """
    inputs = tuple(np.zeros((1, 1, *shape)) for shape in step.call.shapes)
    mu, saved = step.op.forward(np, step.call, {}, inputs)
    numbers = 1.0 + np.arange(mu.size).reshape(mu.shape)
    ones, numbered = (
        step.op.to_inputs(np, step.call, {}, inputs, mu, saved, g)[slot].ravel() for g in (np.ones_like(mu), numbers)
    )
    factor = float(ones[ones != 0][0]) if ones.any() else 1.0
    return np.where(ones != 0, np.rint(numbered / factor), 0).astype(np.int64) - 1, factor


def scattered(step: Step, slot: int) -> WholeNumbers | None:
    """Return which element of the vertex each element of an input goes to."""
    return gathered(step, slot)[0]


def selected(step: Step, slot: int) -> WholeNumbers | None:
    """Return which element of an input each element of the vertex is a copy of; None where they are the same."""
    found = copied_from(step)
    return None if np.array_equal(found, np.arange(prod(step.slots[slot].shape))) else found


def copied_from(step: Step) -> WholeNumbers:
    """Return which element of its one input each element of a vertex is a copy of; -1 where it is none's."""
    (shape,) = step.call.shapes
    distinct = np.random.default_rng(0).permutation(prod(shape)) + 0.25
    mu = step.op.forward(np, step.call, {}, (distinct.reshape(1, 1, *shape),))[0].ravel()
    order = np.argsort(distinct)
    place = order[np.searchsorted(distinct[order], mu).clip(0, len(order) - 1)]
    return np.where(distinct[place] == mu, place, -1)


def broadcast(step: Step, slot: int) -> WholeNumbers | None:
    """Return which element of an input each element of the vertex takes; None where they are the same."""
    inner, outer = step.slots[slot].shape, step.shape
    if prod(inner) == prod(outer):
        return None
    places = np.arange(prod(inner)).reshape((1,) * (len(outer) - len(inner)) + inner)
    return np.broadcast_to(places, outer).ravel()


def of_softmax(layout: Layout, step: Step, *, logarithm: bool) -> int:
    """Write whether the logarithm is taken, and the extents before, along and behind the axis."""
    shape = step.shape
    axis = step.call["axis"] % len(shape)
    extents = {"outer": prod(shape[:axis]), "along": shape[axis], "inner": prod(shape[axis + 1 :])}
    return layout.table.write(shapes.SOFTMAX, step.names[0], logarithm=int(logarithm), **extents)


def of_matmul(layout: Layout, step: Step) -> int:
    """Write the extents of the matrices and which of them are multiplied; a vector is a matrix of one row or column."""
    a, b = step.call.shapes
    fronts = a[:-2], b[:-2]
    both = np.broadcast_shapes(*fronts)
    extents = {"rows": a[-2] if len(a) > 1 else 1, "inside": a[-1], "columns": b[-1] if len(b) > 1 else 1}
    places: dict[str, int] = {}
    for side, front in zip(("left", "right"), fronts, strict=True):
        taken = np.broadcast_to(np.arange(prod(front)).reshape(front), both).ravel()
        again = np.ones(len(taken), np.int64)
        again[np.unique(taken, return_index=True)[1]] = 0
        places |= {side: layout.table.add(taken), f"{side}_again": layout.table.add(again)}
    return layout.table.write(shapes.MATMUL, step.names[0], count=prod(both), **extents, **places)


def of_layer(call: Call) -> int:
    """Return what a layer keeps: the slope where the function is applied."""
    if not activation(call["activation"]):
        return 0
    return prod(call.shapes[0]) if dict(call.attributes).get("convention") == INNER else prod(call.shape)


def for_both_inputs(call: Call) -> int:
    """Return what a power keeps: a slope for each input."""
    return prod(call.shape) * len(call.shapes)


# -- what suits a kernel ------------------------------------------------------------------------------------


def parameter_inputs(_task: Task, step: Step) -> str:
    """Refuse inputs that are parameters: they have no value for each sample."""
    return "an input is a parameter" if any(slot.is_parameter for slot in step.slots) else ""


def refused_layer(task: Task, step: Step) -> str:
    """Return why a layer is refused: its activation, or an input that is a parameter."""
    return without_loop(step.call["activation"]) or parameter_inputs(task, step)


def refused_convolution(task: Task, step: Step) -> str:
    """Return why a convolution is refused: as a layer is, or its windows."""
    return refused_layer(task, step) or sliding_windows.why_not(step.call)


def refused_pool(task: Task, step: Step) -> str:
    """Return why a pooling is refused: an input that is a parameter, or its windows."""
    return parameter_inputs(task, step) or sliding_windows.why_not(step.call)


def refused_neuron(_task: Task, step: Step) -> str:
    """Return why a neuron is refused: its activation."""
    return without_loop(step.call["activation"])


def without_loop(name: str) -> str:
    """Return why an activation is refused; empty if compiled code has it."""
    return "" if name in ("none", *FUNCTIONS) else f"activation {name!r} has no kernel"


def other_attributes(_task: Task, step: Step) -> str:
    """Refuse attributes other than those by which the loop of a function works."""
    name = step.op.name
    known = {key: row.default for key, row in step.op.attributes.items()} | FIXED.get(name, {})
    unlike = [key for key, value in known.items() if key != TAKEN.get(name) and step.call[key] != value]
    return f"attribute {unlike[0]!r} other than {known[unlike[0]]!r} has no kernel" if unlike else ""


def refused_copy(_task: Task, step: Step) -> str:
    """Refuse an op in whose call not every element of the vertex is a copy of one of its input."""
    if len(step.slots) != 1:
        return "its places are an input"
    return "it does more than copy elements" if (copied_from(step) < 0).any() else ""


def refused_rearranged(_task: Task, step: Step) -> str:
    """Refuse an op whose call does not add each element of its inputs, times one number, to at most one element."""
    if any(slot.is_whole for slot in step.slots):
        return "its places are an input"
    inputs = tuple(np.zeros((1, 1, *shape)) for shape in step.call.shapes)
    mu, saved = step.op.forward(np, step.call, {}, inputs)
    g = np.random.default_rng(0).normal(size=mu.shape)
    for slot, sent in enumerate(step.op.to_inputs(np, step.call, {}, inputs, mu, saved, g)):
        goal, factor = gathered(step, slot)
        wanted = np.where(goal < 0, 0, factor * g.ravel()[goal.clip(max=mu.size - 1)])
        if mu.any() or not np.allclose(sent.ravel(), wanted, rtol=1e-12, atol=0):
            return "it does more than rearrange and sum elements"
    return ""


def refused_projection(task: Task, step: Step) -> str:
    """Return why a projection is refused: what it sends late is worked out when it arrives, by its weights then."""
    if len(step.call["synapses"]) >= 1 << 32:
        return "more synapses than 32 bits tell apart"
    if task.rule.fires.applies and any(_travels(slot) for slot in step.slots):
        return "its weights change while errors are on their way"
    return refused_layer(task, step)


def _travels(slot: Slot) -> bool:
    return any(edge.error_delay for edge in slot.edges)


# -- the table ----------------------------------------------------------------------------------------------


def function_row(name: str) -> Kind:
    """Return the row of a function of one input."""
    plain = not activation(name)
    in_place = terms.plain if plain else terms.sloped
    saved = nothing if plain else one_each
    return Kind(elements.unary, partial(of_function, name), saved, other_attributes, in_place=in_place)


REARRANGED = Kind(shapes.rearrange, of_rearranged, nothing, index_map=scattered)
ADDED = replace(REARRANGED, refuses=refused_rearranged)
COPIED = Kind(elements.add, nothing, nothing, refused_copy, index_map=selected)

KINDS: dict[str, Kind] = {
    "affine": Kind(dense.affine, of_affine, of_layer, refused_layer, by_weight=dense.affine_learn),
    "projection": Kind(
        population.project, of_projection, of_layer, refused_projection, by_neuron=population.learn, remembers=True
    ),
    "weighted_sum": Kind(weighted.weighted_sum, of_weighted_sum, refuses=refused_neuron, in_place=terms.weighted),
    "conv": Kind(
        convolution.conv,
        sliding_windows.of_conv,
        of_layer,
        refused_convolution,
        by_weight=convolution.conv_learn,
        learner=convolution.CONV,
    ),
    "max_pool": Kind(pooling.pool, sliding_windows.of_pool, refuses=refused_pool),
    "average_pool": Kind(pooling.pool, sliding_windows.of_pool, nothing, refused_pool),
    "add": Kind(elements.add, nothing, nothing, index_map=broadcast, in_place=terms.plain),
    "subtract": Kind(elements.subtract, nothing, nothing, index_map=broadcast, in_place=terms.subtracted),
    "multiply": Kind(elements.multiply, nothing, nothing, index_map=broadcast, in_place=terms.multiplied),
    "divide": Kind(elements.divide, nothing, index_map=broadcast),
    "power": Kind(elements.power, nothing, for_both_inputs, index_map=broadcast, in_place=terms.sloped),
    "softmax": Kind(shapes.softmax, partial(of_softmax, logarithm=False)),
    "log_softmax": Kind(shapes.softmax, partial(of_softmax, logarithm=True)),
    "matmul": Kind(shapes.matmul, of_matmul, nothing),
    **{name: function_row(name) for name in FUNCTIONS},
    **dict.fromkeys(("sum", "mean", "concat", "slice", "reshape", "transpose"), REARRANGED),
    **dict.fromkeys(("pad", "trilu", "scatter_add"), ADDED),
    **dict.fromkeys(("squeeze", "unsqueeze", "flatten", "flip", "expand", "tile", "resize"), COPIED),
    **dict.fromkeys(("gather", "take_along", "gather_nd", "reverse_sequence"), COPIED),
}
"""How each op is run. A step of any other op is one array call."""

LOSS_KERNELS = {"cross_entropy": loss_errors.cross_entropy}
"""What sets the error of an output in a tick, where predictions move and it is not clamped to its target. A step with
an output of any other loss is one array call."""

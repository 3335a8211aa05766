"""RNN, GRU and LSTM of ONNX, written out step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.models.onnx_node import Operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.models.builder import Operand, Tensor
    from pcsim.models.onnx_node import Node, Translation

State = tuple["Tensor | None", ...]
"""What a cell carries from step to step; None before the first step where nothing is given: zeros."""

# -- activations -----------------------------------------------------------------------------------------------

Function = "Callable[[Node, Tensor, str], Tensor]"


def plain(op: str, **names: str) -> Any:
    """Return an activation that is an op; ``names`` are {alpha or beta: attribute}."""

    def apply(node: Node, x: Tensor, called: str, **given: float) -> Tensor:
        return node.part(op, [x], called, **{names[key]: value for key, value in given.items()})

    return apply


def straight(node: Node, x: Tensor, called: str, alpha: float, beta: float) -> Tensor:
    """Return alpha x + beta."""
    return node.part("add", [node.part("multiply", [x, alpha]), beta], called)


def scaled_tanh(node: Node, x: Tensor, called: str, alpha: float, beta: float) -> Tensor:
    """Return alpha tanh(beta x)."""
    return node.part("multiply", [node.part("tanh", [node.part("multiply", [x, beta])]), alpha], called)


ACTIVATIONS: dict[str, tuple[Any, dict[str, float]]] = {
    "relu": (plain("relu"), {}),
    "tanh": (plain("tanh"), {}),
    "sigmoid": (plain("sigmoid"), {}),
    "softsign": (plain("softsign"), {}),
    "softplus": (plain("softplus"), {}),
    "leakyrelu": (plain("leaky_relu", alpha="slope"), {"alpha": 0.01}),
    "thresholdedrelu": (plain("thresholded_relu", alpha="alpha"), {"alpha": 1.0}),
    "elu": (plain("elu", alpha="alpha"), {"alpha": 1.0}),
    "hardsigmoid": (plain("hard_sigmoid", alpha="alpha", beta="beta"), {"alpha": 0.2, "beta": 0.5}),
    "affine": (straight, {"alpha": 1.0, "beta": 0.0}),
    "scaledtanh": (scaled_tanh, {"alpha": 1.0, "beta": 1.0}),
}
"""{name in lower case: (function, the numbers that it takes with their defaults)}."""


def activations(node: Node, default: Sequence[str], directions: int) -> list[list[Any]]:
    """Return the activations of each direction, with their alpha and beta."""
    names = [str(name).lower() for name in node.get("activations", list(default) * directions)]
    given = {key: iter(node.get(f"activation_{key}", [])) for key in ("alpha", "beta")}
    made = []
    for name in names:
        if name not in ACTIVATIONS:
            node.refuse(f"the activation {name!r} is not among those that are read")
        function, numbers = ACTIVATIONS[name]
        made.append((function, {key: next(given[key], value) for key, value in numbers.items()}))
    return [made[len(default) * each : len(default) * (each + 1)] for each in range(directions)]


# -- one direction ---------------------------------------------------------------------------------------------


@dataclass
class Cell:
    """The weights and activations of one direction.

    Attributes
    ----------
    sums : (time, batch, gates times hidden), W x + b of all steps
    recurrent : (hidden, gates times hidden), R transposed
    bias : (hidden) or None: what a GRU adds to R h of its candidate
    peephole : (gates of the cell's state times hidden) or None
    """

    node: Node
    hidden: int
    sums: Tensor
    recurrent: Tensor
    bias: Tensor | None
    peephole: Tensor | None
    functions: list[Any]

    def gate(self, node: Node, x: Tensor, number: int) -> Tensor:
        """Return one gate's part of the last axis."""
        return cut(node, x, number, self.hidden)

    def bounded(self, node: Node, x: Tensor) -> Tensor:
        """Return the sum of a gate, cut off where the node says so."""
        clip = self.node.get("clip")
        return x if clip is None else node.part("clip", [x], min=-clip, max=clip)

    def apply(self, node: Node, number: int, x: Tensor, called: str) -> Tensor:
        """Return an activation of the sum of a gate."""
        function, given = self.functions[number]
        made: Tensor = function(node, self.bounded(node, x), called, **given)
        return made

    def with_state(self, node: Node, x: Tensor, state: Tensor | None) -> Tensor:
        """Return x plus R times the state."""
        return x if state is None else node.part("add", [x, node.part("matmul", [state, self.recurrent])])


def cut(node: Node, x: Tensor, number: int, extent: int) -> Tensor:
    """Return one of equal parts of the last axis."""
    if x.shape[-1] == extent:
        return x
    return node.part("slice", [x], axis=-1, start=number * extent, stop=(number + 1) * extent)


def total(node: Node, terms: Sequence[Operand | None], called: str = "") -> Tensor:
    """Return the sum of the terms that are given."""
    given = [term for term in terms if term is not None]
    return node.part("add", given, called) if len(given) > 1 else node.builder.constant(given[0])


def rnn_step(cell: Cell, node: Node, x: Tensor, state: State) -> State:
    """Return h = f(W x + R h + b)."""
    return (cell.apply(node, 0, cell.with_state(node, x, state[0]), "h"),)


def gru_step(cell: Cell, node: Node, x: Tensor, state: State) -> State:
    """Return h = (1 - z) n + z h, with update gate z, reset gate r and candidate n."""
    (h,) = state
    back = None if h is None else node.part("matmul", [h, cell.recurrent])

    def gate(number: int, called: str) -> Tensor:
        recurrent = None if back is None else cell.gate(node, back, number)
        return cell.apply(node, 0, total(node, [cell.gate(node, x, number), recurrent]), called)

    z = gate(0, "z")
    if h is None and cell.bias is None:
        terms: list[Tensor | None] = []
    elif cell.node.get("linear_before_reset", 0):
        inner = total(node, [None if back is None else cell.gate(node, back, 2), cell.bias])
        terms = [node.part("multiply", [gate(1, "r"), inner])]
    elif h is None:
        terms = [cell.bias]
    else:
        weights = cut(cell.node, cell.recurrent, 2, cell.hidden)
        terms = [node.part("matmul", [node.part("multiply", [gate(1, "r"), h]), weights]), cell.bias]
    n = cell.apply(node, 1, total(node, [cell.gate(node, x, 2), *terms]), "n")
    kept = None if h is None else node.part("multiply", [z, h])
    return (total(node, [node.part("multiply", [node.part("subtract", [1.0, z]), n]), kept], "h"),)


def lstm_step(cell: Cell, node: Node, x: Tensor, state: State) -> State:
    """Return h and c of an LSTM: gates i, o, f and the candidate, in the order of ONNX."""
    h, c = state
    sums = cell.with_state(node, x, h)

    def gate(number: int, look: Tensor | None, peep: int, called: str) -> Tensor:
        peeped = None
        if cell.peephole is not None and look is not None:
            peeped = node.part("multiply", [cut(cell.node, cell.peephole, peep, cell.hidden), look])
        return cell.apply(node, 0, total(node, [cell.gate(node, sums, number), peeped]), called)

    i = gate(0, c, 0, "i")
    candidate = cell.apply(node, 1, cell.gate(node, sums, 3), "n")
    new = node.part("multiply", [i, candidate])
    if c is not None:
        f = node.part("subtract", [1.0, i], "f") if cell.node.get("input_forget", 0) else gate(2, c, 2, "f")
        new = node.part("add", [node.part("multiply", [f, c]), new], "c")
    o = gate(1, new, 1, "o")
    function, given = cell.functions[2]
    return node.part("multiply", [o, function(node, new, "squashed", **given)], "h"), new


# -- all steps -------------------------------------------------------------------------------------------------


@dataclass
class Layer:
    """A recurrent layer over time: its sizes, and its tensors with time first.

    Attributes
    ----------
    x : (time, batch, features)
    gates : rows of the weights, in hidden units
    """

    node: Node
    x: Tensor
    gates: int
    step: Any
    default: tuple[str, ...]

    @property
    def hidden(self) -> int:
        """Units of the state."""
        return self.node.input(2).shape[-1]

    def directions(self) -> list[str]:
        """Return the directions in which time is run through."""
        said = self.node.get("direction", "forward")
        return ["forward", "reverse"] if said == "bidirectional" else [said]

    def of_direction(self, slot: int, number: int, shape: Sequence[int]) -> Tensor | None:
        """Return a weight or a state of one direction, without the axis of directions; None where it is not given."""
        if not self.node.has(slot):
            return None
        axis, node = int(self.node.get("layout", 0) == 1 and slot in (5, 6)), self.node
        tensor = node.input(slot)
        part = (
            node.part("slice", [tensor], axis=axis, start=number, stop=number + 1) if tensor.shape[axis] > 1 else tensor
        )
        return node.part("reshape", [part], shape=list(shape))

    def cell(self, number: int, functions: list[Any]) -> Cell:
        """Return the weights of one direction, with W x + b of all steps."""
        node, rows = self.node.within(self.directions()[number]), self.gates * self.hidden
        weight = self.of_direction(1, number, [rows, self.x.shape[-1]])
        recurrent = self.of_direction(2, number, [rows, self.hidden])
        bias = self.of_direction(3, number, [2, rows])
        peephole = self.of_direction(7, number, [-1])
        assert weight is not None
        assert recurrent is not None
        sums = node.part("matmul", [self.x, node.part("transpose", [weight])])
        if bias is not None:
            sums = node.part("add", [sums, self.summed(node, bias)])
        inner = None if bias is None or self.step is not gru_step else self.inner(node, bias)
        return Cell(node, self.hidden, sums, node.part("transpose", [recurrent]), inner, peephole, functions)

    def inner(self, node: Node, bias: Tensor) -> Tensor:
        """Return the bias of R of a GRU's candidate."""
        row = node.part("slice", [bias], axis=0, start=1, stop=2)
        return node.part("reshape", [cut(node, row, 2, self.hidden)], shape=[self.hidden])

    def summed(self, node: Node, bias: Tensor) -> Tensor:
        """Return what is added to W x at once: both biases, but of the candidate of a GRU only that of W."""
        if self.step is not gru_step:
            return node.part("sum", [bias], axis=0)
        both = np.ones((2, bias.shape[1]))
        both[1, 2 * self.hidden :] = 0
        return node.part("sum", [node.part("multiply", [bias, both])], axis=0)

    def run(self, number: int, functions: list[Any]) -> tuple[list[Tensor], State]:
        """Return h of each step, in the order of time, and the last state."""
        cell, way = self.cell(number, functions), self.directions()[number]
        steps, batch = self.x.shape[:2]
        slots = (5, 6) if self.step is lstm_step else (5,)
        state: State = tuple(self.of_direction(slot, number, [batch, self.hidden]) for slot in slots)
        lengths = np.asarray(self.node.wholes(4, "the lengths of sequences", [steps] * batch))
        made: dict[int, Tensor] = {}
        for time in range(steps) if way == "forward" else range(steps)[::-1]:
            node = cell.node.within(str(time))
            part = node.part("slice", [cell.sums], axis=0, start=time, stop=time + 1) if steps > 1 else cell.sums
            new = self.step(cell, node, node.part("reshape", [part], shape=list(cell.sums.shape[1:])), state)
            within = (time < lengths)[:, None].astype(float)
            made[time], state = self.masked(node, within, new, state)
        return [made[time] for time in range(steps)], state

    def masked(self, node: Node, within: Any, new: State, old: State) -> tuple[Tensor, State]:
        """Return h, and the state, which stays as it is where a sequence has ended."""
        (h, *_) = new
        assert h is not None
        if within.all():
            return h, new
        shown = node.part("multiply", [h, within])
        kept = tuple(
            total(node, [
                node.part("multiply", [each, within]) if each is not None else None,
                node.part("multiply", [before, 1 - within]) if before is not None else None,
            ])
            for each, before in zip(new, old, strict=True)
        )  # fmt: skip
        return shown, kept

    def outputs(self) -> list[Tensor | None]:
        """Return h of all steps, the last h, and the last c of an LSTM."""
        node, ways = self.node, range(len(self.directions()))
        functions = activations(node, self.default, len(ways))
        ran = [self.run(way, functions[way]) for way in ways]
        batch_first = node.get("layout", 0) == 1
        last = [
            self.joined([state[each] for _, state in ran], 1 if batch_first else 0, 1 + each)
            for each in range(len(ran[0][1]))
        ]
        return [self.over_time([steps for steps, _ in ran], batch_first=batch_first), *last]

    def joined(self, states: Sequence[Tensor | None], axis: int, output: int) -> Tensor | None:
        """Return the states of all directions along an axis of their own."""
        if not self.node.wants(output):
            return None
        wide = [self.node.part("unsqueeze", [state], axes=[axis]) for state in states if state is not None]
        return self.node.vertex("concat", wide, output, axis=axis)

    def over_time(self, ran: Sequence[Sequence[Tensor]], *, batch_first: bool) -> Tensor | None:
        """Return h of all steps and directions: (time, direction, batch, hidden), or the batch first."""
        if not self.node.wants(0):
            return None
        rows = []
        for steps in ran:
            wide = [self.node.part("unsqueeze", [step], axes=[1, 2] if batch_first else [0, 1]) for step in steps]
            rows.append(self.node.part("concat", wide, axis=1 if batch_first else 0))
        return self.node.vertex("concat", rows, axis=2 if batch_first else 1)


def recurrent(step: Any, gates: int, default: tuple[str, ...]) -> Translation:
    """Return the translation of a recurrent layer."""

    def translate(node: Node) -> list[Tensor | None]:
        x = node.input(0)
        if node.get("layout", 0) == 1:
            x = node.part("transpose", [x], axes=[1, 0, 2])
        return Layer(node, x, gates, step, default).outputs()

    return translate


ROWS = (
    Operator("RNN", recurrent(rnn_step, 1, ("tanh",)), known=(4,)),
    Operator("GRU", recurrent(gru_step, 3, ("sigmoid", "tanh")), known=(4,)),
    Operator("LSTM", recurrent(lstm_step, 4, ("sigmoid", "tanh", "tanh")), known=(4,)),
)

"""Recurrent layers of PyTorch, unrolled: a vertex for each step of each elementary function, weights shared by all.

Names are ``PATH.layer0.step3.gates``; the second direction is ``layer0_reverse``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pcsim.errors import wrong
from pcsim.models.builder import Tensor

if TYPE_CHECKING:
    from pcsim.models.torch_scope import Scope

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Cell:
    """One layer in one direction: its name and its weights, as PyTorch lists them."""

    scope: Scope
    name: str
    weights: Sequence[Tensor]
    biased: bool

    def vertex(self, step: int, name: str, op: str, inputs: Sequence[Tensor], **attributes: Any) -> Tensor:
        """Return a vertex of one step."""
        return self.scope.vertex(op, inputs, attributes, name=f"{self.name}.step{step}.{name}")

    def affine(self, step: int, name: str, x: Tensor, number: int) -> Tensor:
        """Return the product with the weight of that number, and its bias."""
        weight = self.weights[number]
        params = {"weight": weight} | ({"bias": self.weights[number + 2]} if self.biased else {})
        attributes = {"units": weight.shape[0], "bias": self.biased}
        return self.scope.vertex("affine", [x], attributes, params=params, name=f"{self.name}.step{step}.{name}")

    def parts(self, step: int, x: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Return the parts of the last axis, one for each gate."""
        size = x.shape[-1] // len(names)
        bounds = [{"axis": len(x.shape) - 1, "start": n * size, "stop": (n + 1) * size} for n in range(len(names))]
        return [self.vertex(step, name, "slice", [x], **each) for name, each in zip(names, bounds, strict=True)]


Step = Callable[[Cell, int, Tensor, State], State]


def lstm_step(cell: Cell, step: int, x: Tensor, state: State) -> State:
    """Return h and c after a step (Hochreiter & Schmidhuber 1997, with the gates in PyTorch's order)."""
    h, c = state
    sums = [cell.affine(step, "from_input", x, 0), cell.affine(step, "from_state", h, 1)]
    gates = cell.vertex(step, "gates", "add", sums)
    i, f, g, o = cell.parts(step, gates, ("i", "f", "g", "o"))
    keep = cell.vertex(step, "keep", "multiply", [cell.vertex(step, "forget_gate", "sigmoid", [f]), c])
    candidate = cell.vertex(step, "candidate", "tanh", [g])
    write = cell.vertex(step, "write", "multiply", [cell.vertex(step, "input_gate", "sigmoid", [i]), candidate])
    c = cell.vertex(step, "c", "add", [keep, write])
    shown = cell.vertex(step, "tanh_c", "tanh", [c])
    h = cell.vertex(step, "h", "multiply", [cell.vertex(step, "output_gate", "sigmoid", [o]), shown])
    return h, c


def gru_step(cell: Cell, step: int, x: Tensor, state: State) -> State:
    """Return h after a step (Cho et al. 2014, with the reset gate behind the product, as PyTorch has it)."""
    (h,) = state
    of_x = cell.parts(step, cell.affine(step, "from_input", x, 0), ("r_input", "z_input", "n_input"))
    of_h = cell.parts(step, cell.affine(step, "from_state", h, 1), ("r_state", "z_state", "n_state"))
    reset = cell.vertex(step, "reset_gate", "sigmoid", [cell.vertex(step, "r", "add", [of_x[0], of_h[0]])])
    update = cell.vertex(step, "update_gate", "sigmoid", [cell.vertex(step, "z", "add", [of_x[1], of_h[1]])])
    kept = cell.vertex(step, "kept", "multiply", [reset, of_h[2]])
    new = cell.vertex(step, "new", "tanh", [cell.vertex(step, "n", "add", [of_x[2], kept])])
    away = cell.vertex(step, "away", "subtract", [h, new])
    return (cell.vertex(step, "h", "add", [new, cell.vertex(step, "share", "multiply", [update, away])]),)


def plain_step(function: str) -> Step:
    """Return the step of a recurrent layer with one function (Elman 1990)."""

    def step_of(cell: Cell, step: int, x: Tensor, state: State) -> State:
        sums = [cell.affine(step, "from_input", x, 0), cell.affine(step, "from_state", state[0], 1)]
        return (cell.vertex(step, "h", function, [cell.vertex(step, "sum", "add", sums)]),)

    return step_of


@dataclass(frozen=True)
class Layers:
    """What an operator says of its layers, in its own order of arguments."""

    biased: bool
    count: int
    rate: float
    train: bool
    bidirectional: bool
    batch_first: bool

    @property
    def directions(self) -> int:
        """1, or 2 where each layer also runs backwards."""
        return 1 + self.bidirectional


def recurrent(scope: Scope, step: Step, x: Tensor, states: State, weights: Sequence[Tensor], layers: Layers) -> Any:
    """Return the outputs of the last layer, and the last states of each layer and direction, stacked.

    x is (steps, batch, features), or (batch, steps, features), or (steps, features) without a batch.
    """
    axis = 1 if layers.batch_first and len(x.shape) == 3 else 0
    per_cell = len(weights) // (layers.count * layers.directions)
    if (layers.biased and per_cell > 4) or (not layers.biased and per_cell > 2):
        raise wrong((), "an LSTM with proj_size has no translation")
    outputs = [scope.entry(x, axis, number) for number in range(x.shape[axis])]
    finals: list[State] = []
    for layer in range(layers.count):
        rows = []
        for direction in range(layers.directions):
            number = layer * layers.directions + direction
            own = weights[number * per_cell : (number + 1) * per_cell]
            cell = Cell(scope, f"layer{layer}" + "_reverse" * direction, own, layers.biased)
            start = tuple(scope.entry(state, 0, number) for state in states)
            row, final = unrolled(cell, step, outputs, start, backwards=direction == 1)
            rows.append(row)
            finals.append(final)
        outputs = joined(scope, layer, rows)
        if layers.train and layers.rate and layer < layers.count - 1:
            outputs = [
                scope.vertex("dropout", [h], {"rate": layers.rate}, name=f"layer{layer}.step{at}.dropout")
                for at, h in enumerate(outputs)
            ]
    lasts = [
        stacked(scope, each, 0, name) for name, each in zip(("h_n", "c_n"), zip(*finals, strict=True), strict=False)
    ]
    return stacked(scope, outputs, axis, "output"), *lasts


def unrolled(
    cell: Cell, step: Step, inputs: list[Tensor], state: State, *, backwards: bool
) -> tuple[list[Tensor], State]:
    """Return the output of each step, in the order of the inputs, and the state after the last one taken."""
    order = range(len(inputs))
    outputs: dict[int, Tensor] = {}
    for number in reversed(order) if backwards else order:
        state = step(cell, number, inputs[number], state)
        outputs[number] = state[0]
    return [outputs[number] for number in order], state


def joined(scope: Scope, layer: int, rows: list[list[Tensor]]) -> list[Tensor]:
    """Return the outputs of one layer: those of both directions side by side, where there are two."""
    if len(rows) == 1:
        return rows[0]
    return [
        scope.vertex("concat", list(both), {"axis": len(both[0].shape) - 1}, name=f"layer{layer}.step{at}.both")
        for at, both in enumerate(zip(*rows, strict=True))
    ]


def stacked(scope: Scope, parts: Sequence[Tensor], axis: int, name: str) -> Tensor:
    """Return tensors side by side along a new axis."""
    rows = [
        scope.vertex("unsqueeze", [part], {"axes": [axis]}, name=f"{name}.{number}")
        for number, part in enumerate(parts)
    ]
    return rows[0] if len(rows) == 1 else scope.vertex("concat", rows, {"axis": axis}, name=name)


def packed(weights: Any) -> None:
    """Refuse a packed sequence, whose second argument is no list of states."""
    if not isinstance(weights, list | tuple):
        raise wrong((), "packed sequences have no translation: give the module padded ones")


def lstm(scope: Scope, x: Tensor, states: Any, weights: Any, *options: Any) -> Any:
    """Return output, h_n and c_n of an LSTM."""
    packed(weights)
    return recurrent(scope, lstm_step, x, tuple(states), weights, Layers(*options[:6]))


def one_state(step: Step) -> Callable[..., Any]:
    """Return the translation of a recurrent operator whose state is one tensor."""

    def translation(scope: Scope, x: Tensor, state: Tensor, weights: Any, *options: Any) -> Any:
        packed(weights)
        return recurrent(scope, step, x, (state,), weights, Layers(*options[:6]))

    return translation


gru = one_state(gru_step)
rnn_tanh = one_state(plain_step("tanh"))
rnn_relu = one_state(plain_step("relu"))

"""What a vertex computes: the row that describes one elementary function and its derivative.

Arrays carry two leading axes, the stack of equal vertices and the batch: an input of vertex shape
``shape`` is (stack, batch, *shape). A parameter carries the stack alone: (stack, *shape). Either leading
extent may be 1, which broadcasts (a parameter shared by the whole stack, a parameter used as an
input, whose batch extent is 1). What ``to_inputs`` and ``to_params`` return has the very shape of
the operand: where the operand was broadcast, the derivative is summed.

An op knows its vertex and nothing else: it returns local derivatives; only an engine adds them up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pcsim.arrays import Array, Namespace, Shape
from pcsim.ops.attributes import schema_of

if TYPE_CHECKING:
    from pathlib import Path

Inputs = tuple[Array, ...]
Params = Mapping[str, Array]
"""Operands beside the inputs, by name: parameters and buffers (stack, *shape), draws (stack, batch, *shape)."""
Saved = tuple[Array, ...]
Format = Literal["float", "whole"]
"""The numbers that an input carries: floating point, or whole numbers (int64) such as indices."""


@dataclass(frozen=True)
class Attribute:
    """One key that an op takes in a document, with the check that makes its value."""

    parse: Callable[[Any], Any]
    """Turns what the document says into a hashable value, or raises ValueError saying what is expected."""
    default: Any = None
    required: bool = False
    summary: str = ""
    follows: str = ""
    """The attribute that this one is worked out from: it is written out only where that one is not given."""
    array: bool = False
    """Whether it is an array of numbers, which may stand in a file: {file: w.npz, key: name}."""

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the key, with what it is for and its default."""
        known = {} if self.required else {"default": self.default}
        return {**schema_of(self.parse), "description": self.summary, **known}


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter that an op needs: its shape and how it starts (a document's ``init``)."""

    shape: Shape
    init: tuple[str, Any] = ("uniform_fan_in", None)
    fan_in: int | None = None
    """Inputs per unit, where the initialiser scales by it; None: taken from the shape."""
    fan_out: int | None = None
    """Units per input, likewise."""


@dataclass(frozen=True)
class InputSlot:
    """What an op expects of one input.

    Attributes
    ----------
    differentiable : an error message returns over this input; else it takes a clamped source only (indices, masks)
    format : ``float``, or ``whole`` for whole numbers, which never pass through floating point
    """

    name: str = "input"
    differentiable: bool = True
    format: Format = "float"


FLOATS = (InputSlot(),)
"""Every input is differentiable and carries floating-point numbers."""


@dataclass(frozen=True)
class BufferSpec:
    """A tensor that a vertex keeps from batch to batch and that no rule learns, such as a running mean."""

    shape: Shape
    start: float = 0.0


@dataclass(frozen=True)
class Cost:
    """What one vertex computes for one sample.

    Attributes
    ----------
    multiply_adds : multiplications with an addition each, of the forward call
    back : multiply-adds of the error message to one input, as a multiple of ``multiply_adds``
    weights : numbers that are read once for the whole batch
    messages : values that cross each edge, where it is not one vertex's value but a synapse's
    curved : a slope is kept for the derivative and multiplied by it
    """

    multiply_adds: float = 0.0
    back: float = 1.0
    weights: float = 0.0
    messages: float | None = None
    curved: bool = True


@dataclass(frozen=True)
class Factors:
    """What the update of one parameter is made of: sums of postsynaptic error, slope and presynaptic value.

    Attributes
    ----------
    equation : of ``einsum``, for errors (and slopes alike) and presynaptic values: ``nsu,nsf->uf``. ``n`` are samples;
        every other letter that the result lacks is a site at which the parameter is used.
    error, slope : postsynaptic; a slope of None is 1
    pre : presynaptic; None is 1, as for a bias
    """

    equation: str
    error: Array
    slope: Array | None = None
    pre: Array | None = None


@dataclass(frozen=True)
class Call:
    """What an op knows of the vertex that uses it; equal calls can be stacked into one step."""

    shapes: tuple[Shape, ...] = ()
    """Shapes of the inputs, without leading axes."""
    shape: Shape = ()
    """Shape of the vertex."""
    attributes: tuple[tuple[str, Any], ...] = ()
    """Attributes, sorted by name, hashable."""

    def __getitem__(self, name: str) -> Any:
        for key, value in self.attributes:
            if key == name:
                return value
        raise KeyError(name)


@dataclass(frozen=True)
class Site:
    """Where a structure is drawn or read: what an op with ``realise`` knows beyond its call.

    Attributes
    ----------
    shapes : of the inputs that the document gives
    draws : (seed, what is drawn) -> a random stream of this vertex's own
    folder : files are sought here
    """

    shapes: tuple[Shape, ...]
    draws: Callable[[int, str], Any]
    folder: Path


@dataclass(frozen=True)
class Realised:
    """Attributes with their structure drawn or read, and which input each slot takes, by how many ticks later."""

    attributes: tuple[tuple[str, Any], ...]
    inputs: tuple[int, ...]
    delays: tuple[int, ...]


def no_params(call: Call) -> dict[str, ParameterSpec]:
    """Return the parameters of an op that has none."""
    return {}


def elementwise(call: Call) -> Cost:
    """Return the cost of an op that computes every number of its vertex by itself."""
    return Cost()


def reduction(call: Call) -> Cost:
    """Return the cost of an op that combines the numbers of its input: an operation for each."""
    return Cost(float(prod(call.shapes[0])))


def undeclared(call: Call) -> Cost:
    """Return the cost of an op whose row says nothing of it: what is elementwise, for an estimate at least."""
    return Cost()


def no_buffers(call: Call) -> dict[str, BufferSpec]:
    """Return the buffers of an op that keeps none."""
    return {}


def no_draws(call: Call, batch: int, rng: Any) -> dict[str, Array]:
    """Return the random draws of an op that makes none."""
    return {}


def no_to_buffers(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> dict[str, Array]:
    """Return what the buffers of an op become: as they are."""
    return {}


def apart(call: Call) -> bool:
    """Return whether an op couples the samples of a batch: it does not."""
    return False


def no_fan_in(call: Call, slot: int) -> None:
    """Return the inputs per unit of a parameter taken as an input: of no matrix product there are none to count."""


def no_to_params(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> dict[str, Array]:
    """Return the parameter derivatives of an op that has no parameters."""
    return {}


@dataclass(frozen=True)
class Op:
    """One elementary function: forward and vector-Jacobian product side by side.

    Attributes
    ----------
    shape : (call with shapes and attributes, its own shape still empty) -> shape of the vertex; raises
        ValueError that says what was expected.
    forward : (xp, call, params, inputs) -> (mu, saved); ``saved`` is what the derivatives reuse, so
        that fixed predictions pay for it once.
    to_inputs : (xp, call, params, inputs, mu, saved, g) -> one array per input, J^T g ([M] eq. 2).
    to_params : the same arguments -> {parameter slot: array}, summed over the batch ([M] eq. 3).
    factors : (xp, call, params, inputs, g) -> {parameter slot: Factors}, of a stack of one vertex: what ``to_params``
        sums, where a vertex is linear in its parameters and a function of each element follows; None where it is not.
    slots : {parameter slot: what it is, with its shape}, of all that ``params`` may return; for the reference.
    inputs : one slot for each input; the last one stands for all that follow.
    couples : (call) -> whether one sample's value depends on the others of its batch (batch statistics). Such a
        vertex is one actor over the whole batch, and what treats samples apart refuses it.
    fan_in : (call, slot) -> how many products with an input are summed to one number, where a parameter that is taken
        as an input is to start accordingly; None where there is no such number.
    cost : (call) -> what the forward call costs for one sample; ``plan`` and the benchmark count by it. An account of
        cost refuses an op that leaves it undeclared.
    buffers : (call) -> {name: BufferSpec}, tensors kept from batch to batch; they are among ``params``.
    to_buffers : (xp, call, params, inputs) -> {name: array}, the buffers after a batch, from its feedforward sweep.
    draws : (call, batch, rng) -> {name: (batch, *shape)}, drawn once for each batch from a stream of the seed, the
        vertex and the batch's number; they are among ``params``.
    domain : (xp, call, inputs) -> mask of forbidden elements of the first offending input, with
        ``domain_text`` saying what is forbidden.
    after_training : attributes that differ once training is over: running statistics, nothing dropped.
    realise : (attributes of the document, site) -> attributes and inputs of the call, where a document says
        how a structure is drawn and not what it is; raises InputError.
    """

    name: str
    summary: str
    arity: tuple[int, int | None]
    shape: Callable[[Call], Shape]
    forward: Callable[[Namespace, Call, Params, Inputs], tuple[Array, Saved]]
    to_inputs: Callable[[Namespace, Call, Params, Inputs, Array, Saved, Array], tuple[Array, ...]]
    to_params: Callable[[Namespace, Call, Params, Inputs, Array, Saved, Array], dict[str, Array]] = no_to_params
    params: Callable[[Call], dict[str, ParameterSpec]] = no_params
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    inputs: tuple[InputSlot, ...] = FLOATS
    couples: Callable[[Call], bool] = apart
    fan_in: Callable[[Call, int], int | None] = no_fan_in
    cost: Callable[[Call], Cost] = undeclared
    buffers: Callable[[Call], dict[str, BufferSpec]] = no_buffers
    to_buffers: Callable[[Namespace, Call, Params, Inputs], dict[str, Array]] = no_to_buffers
    draws: Callable[[Call, int, Any], dict[str, Array]] = no_draws
    domain: Callable[[Namespace, Call, Inputs], tuple[int, Array]] | None = None
    domain_text: str = ""
    realise: Callable[[tuple[tuple[str, Any], ...], Site], Realised] | None = None
    after_training: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    role: Literal["function", "source", "parameter"] = "function"
    source: str = ""
    slots: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    factors: Callable[[Namespace, Call, Params, Inputs, Array], dict[str, Factors]] | None = None

    def __repr__(self) -> str:
        return f"Op({self.name!r}: {self.summary})"

    def slot(self, number: int) -> InputSlot:
        """Return what the op expects of one of its inputs."""
        return self.inputs[min(number, len(self.inputs) - 1)]


def feedback_weight(slot: str) -> str:
    """Return the buffer that stands for a parameter on the way back."""
    return f"feedback_{slot}"


@dataclass(frozen=True)
class Feedback:
    """How the error messages of a vertex travel back: with which operands its ``to_inputs`` is called.

    Attributes
    ----------
    symmetric : the operands are those of the forward call, so that messages are the vector-Jacobian products.
    operands : (xp, params) -> params for ``to_inputs``; parameters are (stack, *shape). Buffers and draws are not among
        them: ``to_inputs`` is given these as they are.
    own : each weight of the vertex, a parameter of two axes or more, has a feedback weight of the same shape in its
        place. It is a buffer of the vertex, drawn apart from the weight but in the same way; ``operands`` is not asked.
    learns : in training, feedback weights take the same steps as the weights that they stand for.
    slopes : errors are multiplied by the slope of the activation on their way; else it is left out.
    """

    name: str
    summary: str
    operands: Callable[[Namespace, Params], Params]
    symmetric: bool = False
    source: str = ""
    own: bool = False
    learns: bool = False
    slopes: bool = True

    def weights(self, op: Op, call: Call) -> dict[str, ParameterSpec]:
        """Return {buffer: the parameter that it stands for}: the feedback weights that a vertex has of its own."""
        specs = op.params(call).items() if self.own else ()
        return {feedback_weight(slot): spec for slot, spec in specs if len(spec.shape) > 1}

    def applied(self, xp: Namespace, op: Op, call: Call, params: Params) -> Params:
        """Return the operands of ``to_inputs``: the parameters of a vertex as this feedback has them, and the rest."""
        if self.symmetric:
            return params
        if self.own:
            slots = [slot for slot in op.params(call) if feedback_weight(slot) in params]
            return {**params, **{slot: params[feedback_weight(slot)] for slot in slots}}
        return {**params, **self.operands(xp, {name: params[name] for name in op.params(call)})}

    def messages(
        self, xp: Namespace, op: Op, call: Call, operands: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
    ) -> tuple[Array, ...]:
        """Return the error message to each input, J^T g with these operands ([M] eq. 2)."""
        if not self.slopes:
            call, saved = straight(call), ()
        return op.to_inputs(xp, call, operands, inputs, mu, saved, g)


def straight(call: Call) -> Call:
    """Return a call without its activation."""
    without = tuple((key, "none" if key == "activation" else value) for key, value in call.attributes)
    return replace(call, attributes=without)


@dataclass(frozen=True)
class Loss:
    """What an output may carry: L(mu, target) and its error -dL/dmu ([Z] 3.12).

    Attributes
    ----------
    value : (xp, mu, target) -> (stack, batch), the loss of each sample.
    error : (xp, mu, target) -> -dL/dmu, of mu's shape.
    clamps : the output's value is clamped to the target, so that ``error`` is target - mu.
    refuses : (shape) -> why an output of this shape cannot carry the loss; empty if it can.
    takes_classes : targets are probabilities of classes, along the last axis.
    """

    name: str
    summary: str
    value: Callable[[Namespace, Array, Array], Array]
    error: Callable[[Namespace, Array, Array], Array]
    clamps: bool = False
    refuses: Callable[[Shape], str] = lambda _shape: ""
    takes_classes: bool = False
    source: str = ""

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
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pcsim.arrays import Array, Namespace, Shape

if TYPE_CHECKING:
    from pathlib import Path

Inputs = tuple[Array, ...]
Params = Mapping[str, Array]
Saved = tuple[Array, ...]


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
    domain : (xp, call, inputs) -> mask of forbidden elements of the first offending input, with
        ``domain_text`` saying what is forbidden.
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
    domain: Callable[[Namespace, Call, Inputs], tuple[int, Array]] | None = None
    domain_text: str = ""
    realise: Callable[[tuple[tuple[str, Any], ...], Site], Realised] | None = None
    role: Literal["function", "source", "parameter"] = "function"
    source: str = ""


@dataclass(frozen=True)
class Loss:
    """What an output may carry: L(mu, target) and its error -dL/dmu ([Z] 3.12).

    Attributes
    ----------
    value : (xp, mu, target) -> (stack, batch), the loss of each sample.
    error : (xp, mu, target) -> -dL/dmu, of mu's shape.
    """

    name: str
    summary: str
    value: Callable[[Namespace, Array, Array], Array]
    error: Callable[[Namespace, Array, Array], Array]
    source: str = ""

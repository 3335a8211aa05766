"""The row of a function of one input that works element by element."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pcsim.arrays import Array, Namespace
    from pcsim.ops.op import Attribute


@dataclass(frozen=True)
class Unary:
    """A function of each element, and its slope.

    Attributes
    ----------
    f : (xp, x, **attributes) -> y, of x's shape and number format.
    slope : (xp, x, y, **attributes) -> dy/dx; None where it is 1, so that nothing is computed or kept.
    outside : (x) -> mask of the elements where f has no value; None where it has one everywhere.
    in_layers : whether layers may apply it, with its attributes at their defaults.
    """

    summary: str
    f: Callable[..., Array]
    slope: Callable[..., Array] | None
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    outside: Callable[[Array], Array] | None = None
    outside_text: str = ""
    source: str = ""
    in_layers: bool = True

    @property
    def activates(self) -> bool:
        """Whether layers may apply it: it has a value everywhere, and attributes with defaults that make sense."""
        return self.in_layers and self.outside is None


def one_of(xp: Namespace, where: Array, x: Array, yes: float, no: float) -> Array:
    """Return one number where a condition holds and another elsewhere, in x's number format."""
    return xp.where(where, xp.full_like(x, yes), xp.full_like(x, no))


def zero_slope(xp: Namespace, x: Array, y: Array) -> Array:
    """Return zeros: the slope of a function that is constant but for its jumps."""
    return xp.zeros_like(x)

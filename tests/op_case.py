"""One op as a document uses it, with a reference of its own: what the conformance tests of ops are run on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pcsim.ops import OPS, Call, complete

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Case:
    """An op as a document uses it, and the same function of one sample in autograd's NumPy."""

    op: str
    shapes: tuple[tuple[int, ...], ...]
    reference: Callable[..., Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    low: float = -2.0
    high: float = 2.0
    below: int = 2
    """Inputs of whole numbers are drawn below this one."""

    def __str__(self) -> str:
        values = "".join(f"-{v}" for v in self.attributes.values())
        return f"{self.op}{list(self.shapes)}{values}".replace(" ", "")

    @property
    def call(self) -> Call:
        return complete(OPS[self.op], self.shapes, self.attributes)

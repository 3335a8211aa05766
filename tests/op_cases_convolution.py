"""Cases of convolutions and pooling, each with a reference in autograd's NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from op_case import Case

CONVOLUTION: list[Case] = []

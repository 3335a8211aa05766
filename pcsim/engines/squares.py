"""Squared norms of rows, in double precision where the number format would lose them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pcsim.arrays import Array, Namespace


SAFE = 1e-20
"""A sum of squares in float32 between this and its reciprocal lost nothing to the ends of the number format."""


LONG = 32
"""Numbers in a row from which on a BLAS product for each row beats one loop over all of them (einsum), up to 4 times;
where rows are one number long it is 8 times slower."""


def row_products(a: Array, b: Array) -> Array:
    """Return the product of each row of a with that of b, on the host: (rows, size) twice -> (rows,)."""
    if a.shape[1] < LONG:
        return np.einsum("ij,ij->i", a, b)
    return np.matmul(a[:, None], b[:, :, None])[:, 0, 0]


def squares_of(xp: Namespace, rows: Array) -> Array:
    """Return the squared L2 norm of each row, float64; rows whose squares leave float32 are taken again."""
    flat = rows.reshape(len(rows), -1)
    if xp is not np:  # which rows are unsure would have to be asked of the device
        return xp.sum(xp.square(flat.astype("float64")), axis=1)
    squares = row_products(flat, flat).astype("float64")
    unsure = ~((squares > SAFE) & (squares < 1 / SAFE))
    if rows.dtype == "float32" and bool(unsure.any()):
        again = flat[unsure].astype("float64")
        squares[unsure] = row_products(again, again)
    return squares

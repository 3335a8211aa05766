"""How ops that combine, rearrange, choose and reduce axes are written as nodes of ONNX."""

from __future__ import annotations

from string import ascii_letters
from typing import TYPE_CHECKING

import numpy as np

from pcsim.arrays import LEAD
from pcsim.ops.contraction import labels_of
from pcsim.ops.extension import sources_by_axis
from pcsim.ops.reductions import axes_within, axis_within

if TYPE_CHECKING:
    from pcsim.models.onnx_vertex import Row, Writing
    from pcsim.ops.sums_of_products import Label

# -- arithmetic ----------------------------------------------------------------------------------------------


def several(kind: str) -> Row:
    """Return how an op of several inputs that broadcast is written."""
    return lambda w: w.chain(kind, w.aligned())


def power(w: Writing) -> str:
    """Return the base to an exponent, an attribute or the second input."""
    exponent = w.call["exponent"]
    names = w.aligned()
    return w.node("Pow", names[0], *(names[1:] if exponent is None else [float(exponent)]))


def where(w: Writing) -> str:
    """Return the second input where the mask is not 0, else the third."""
    mask, yes, no = w.aligned()
    return w.node("Where", w.node("Cast", mask, to=w.model.onnx.TensorProto.BOOL), yes, no)


def prelu(w: Writing) -> str:
    """Return the input where positive, else the second input times it."""
    x, slope = w.aligned()
    return w.node("Add", w.node("Relu", x), w.node("Mul", w.node("Min", x, 0.0), slope))


def modulo(w: Writing) -> str:
    """Return the remainder, which has the sign of the first input where it is truncated, else that of the divisor."""
    a, b = w.aligned()
    found = w.node("Mod", a, b, fmod=1)
    if w.call["truncate"]:
        return found
    return w.node("Where", w.node("Less", w.node("Mul", found, b), 0.0), w.node("Add", found, b), found)


def matmul(w: Writing) -> str:
    """Return the matrix product; an input of one axis is a row on the left, a column on the right."""
    a, b = w.inputs
    left, right = w.shapes
    rank = max(len(left), len(right), 2)
    if len(left) == 1:
        a, left = w.shaped(a, (1, *left)), (1, *left)
    if len(right) == 1:
        b, right = w.shaped(b, (*right, 1)), (*right, 1)
    made = w.node("MatMul", w.widened(a, left, rank), w.widened(b, right, rank))
    return w.shaped(made, w.call.shape) if {len(shape) for shape in w.shapes} & {1} else made


def einsum(w: Writing) -> str:
    """Return the sum of products that the equation says, with the batch as the first axis of every term."""
    terms, result = labels_of(w.call)
    letters: dict[Label, str] = {}
    for label in (label for term in terms for label in term):
        letters.setdefault(label, ascii_letters[1 + len(letters)])
    texts = ["a" + "".join(letters[label] for label in term) for term in (*terms, result)]
    names = map(w.spread, range(len(w.inputs)))
    return w.node("Einsum", *names, equation=f"{','.join(texts[:-1])}->{texts[-1]}")


# -- axes ----------------------------------------------------------------------------------------------------


def axis_of(w: Writing) -> int:
    """Return the attribute ``axis`` as an axis of a tensor with the batch in front."""
    return 1 + axis_within(w.call["axis"], w.rank)


def concat(w: Writing) -> str:
    """Return the inputs one after the other."""
    return w.node("Concat", *map(w.spread, range(len(w.inputs))), axis=axis_of(w))


def slices(w: Writing) -> str:
    """Return part of the input along an axis."""
    axis = axis_of(w)
    extent = w.shapes[0][axis - 1]
    return w.part(w.x, axis, slice(w.call["start"], w.call["stop"], w.call["step"]).indices(extent))


def reshaped(w: Writing) -> str:
    """Return the same elements with the axes of the vertex."""
    return w.shaped(w.x, w.call.shape)


def transposed(w: Writing) -> str:
    """Return the axes in another order."""
    chosen = range(w.rank)[::-1] if w.call["axes"] is None else axes_within(w.call["axes"], w.rank)
    return w.node("Transpose", w.x, perm=[0, *(1 + axis for axis in chosen)])


def expanded(w: Writing) -> str:
    """Return the input repeated along axes of extent 1."""
    return w.node("Expand", w.widened(w.x, w.shapes[0], len(w.call.shape)), w.whole([1, *w.call.shape]))


def tiled(w: Writing) -> str:
    """Return the input repeated along each axis."""
    repeats = [n // m for n, m in zip(w.call.shape, wide(w), strict=True)]
    return w.node("Tile", w.widened(w.x, w.shapes[0], len(w.call.shape)), w.whole([1, *repeats]))


def wide(w: Writing) -> tuple[int, ...]:
    """Return the shape of the input with as many axes as the vertex."""
    return (1,) * (len(w.call.shape) - w.rank) + w.shapes[0]


def flipped(w: Writing) -> str:
    """Return the input with some axes from their end to their beginning."""
    axes = range(w.rank) if w.call["axes"] is None else axes_within(w.call["axes"], w.rank)
    x = w.x
    for axis in axes:
        x = w.part(x, 1 + axis, slice(None, None, -1).indices(w.shapes[0][axis]))
    return x


def normalised(kind: str) -> Row:
    """Return how an op along one axis is written."""
    return lambda w: w.node(kind, w.x, axis=axis_of(w))


def triangle(w: Writing) -> str:
    """Return the part of a matrix above or below a diagonal."""
    return w.node("Trilu", w.x, w.whole(w.call["diagonal"]), upper=int(w.call["upper"]))


def padded(w: Writing) -> str:
    """Return the input with something before and behind each axis, or less of it."""
    if w.call["mode"] != "constant":
        x = w.x
        for axis, places in sources_by_axis(np, w.call):
            x = w.node("Gather", x, w.whole(places), axis=axis - LEAD + 1)
        return x
    x, pairs = w.x, [(max(before, 0), max(after, 0)) for before, after in w.call["widths"]]
    for axis, (before, after) in enumerate(w.call["widths"]):
        if min(before, after) < 0:
            extent = w.shapes[0][axis]
            x = w.part(x, 1 + axis, (max(-before, 0), extent - max(-after, 0), 1))
    befores, afters = zip((0, 0), *pairs, strict=True)
    return w.node("Pad", x, w.whole([*befores, *afters]), float(w.call["value"]))


# -- reductions and scans ------------------------------------------------------------------------------------


def reduction(kind: str) -> Row:
    """Return how a reduction over axes is written."""

    def write(w: Writing) -> str:
        chosen = range(w.rank) if w.call["axis"] is None else axes_within(w.call["axis"], w.rank)
        axes = [1 + axis for axis in chosen]
        x = w.x if axes else w.shaped(w.x, (1, *w.shapes[0]))  # of one number there is an axis to reduce, too
        return w.node(kind, x, w.whole(axes or [1]), keepdims=int(w.call["keepdims"] and bool(axes)))

    return write


def norm(w: Writing) -> str:
    """Return the sum of absolute values, or the root of the sum of squares."""
    return reduction("ReduceL1" if w.call["order"] == 1 else "ReduceL2")(w)


def running_sum(w: Writing) -> str:
    """Return sums along an axis, up to each element."""
    given = {"exclusive": int(w.call["exclusive"]), "reverse": int(w.call["reverse"])}
    return w.node("CumSum", w.x, w.whole(axis_of(w)), **given)


def running_product(w: Writing) -> str:
    """Return products along an axis, up to each element: of a matrix with ones where an element does not count."""
    axis, extent = axis_of(w), w.shapes[0][axis_of(w) - 1]
    places = np.arange(extent)
    ahead = places[None, :] - places[:, None]
    ahead = -ahead if w.call["reverse"] else ahead
    counts = (ahead < 0 if w.call["exclusive"] else ahead <= 0).reshape(extent, extent, *[1] * (w.rank - axis))
    wide = w.node("Unsqueeze", w.x, w.whole([axis]))
    kept = w.node("Where", w.model.constant(counts), wide, 1.0)
    return w.node("ReduceProd", kept, w.whole([axis + 1]), keepdims=0)


def dropout(w: Writing) -> str:
    """Return the input with numbers dropped at random, drawn by whoever runs the model; as it is where none are."""
    if not w.call["active"] or not w.call["rate"]:
        return w.node("Identity", w.x)
    return w.node("Dropout", w.x, float(w.call["rate"]), w.model.constant(np.asarray(True)))


ROWS: dict[str, Row] = {
    "add": several("Add"), "subtract": several("Sub"), "multiply": several("Mul"), "divide": several("Div"),
    "maximum": several("Max"), "minimum": several("Min"), "power": power, "where": where, "prelu": prelu, "mod": modulo,
    "matmul": matmul, "einsum": einsum,
    "concat": concat, "slice": slices, "reshape": reshaped, "squeeze": reshaped, "unsqueeze": reshaped,
    "flatten": reshaped, "transpose": transposed, "expand": expanded, "tile": tiled, "flip": flipped, "pad": padded,
    "softmax": normalised("Softmax"), "log_softmax": normalised("LogSoftmax"), "trilu": triangle,
    "sum": reduction("ReduceSum"), "mean": reduction("ReduceMean"), "max": reduction("ReduceMax"),
    "min": reduction("ReduceMin"), "prod": reduction("ReduceProd"), "logsumexp": reduction("ReduceLogSumExp"),
    "log_sum": reduction("ReduceLogSum"), "sum_square": reduction("ReduceSumSquare"), "norm": norm,
    "cumsum": running_sum, "cumprod": running_product, "dropout": dropout,
}  # fmt: skip

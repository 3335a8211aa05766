"""How norms of samples and of batches are written as nodes of ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.ops.reductions import axis_within
from pcsim.ops.rescaling import window
from pcsim.ops.sample_norms import GROUP, INSTANCE, LAYER, ROOT_MEAN_SQUARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.models.onnx_vertex import Row, Writing
    from pcsim.ops.sample_norms import Norm


def standardised(w: Writing, x: str, axes: Sequence[int], *, centred: bool = True) -> str:
    """Return a tensor less its mean over some axes, divided by its root mean square over them."""
    over = w.whole(list(axes))
    less = w.node("Sub", x, w.node("ReduceMean", x, over, keepdims=1)) if centred else x
    return divided(w, less, w.node("ReduceMean", w.node("Mul", less, less), over, keepdims=1))


def divided(w: Writing, x: str, variance: str) -> str:
    """Return a tensor divided by the root of a variance and epsilon."""
    return w.node("Div", x, w.node("Sqrt", w.node("Add", variance, float(w.call["epsilon"]))))


def weighted(w: Writing, x: str, shape: Sequence[int]) -> str:
    """Return a tensor times the weight plus the bias, those that there are, which have a shape that broadcasts."""
    for slot, kind in (("weight", "Mul"), ("bias", "Add")):
        if slot in w.params:
            x = w.node(kind, x, w.shaped(w.params[slot], shape))
    return x


def batch_norm(w: Writing) -> str:
    """Return the input normalised feature by feature, by the statistics of the batch or by frozen ones."""
    axis, rank = axis_within(w.call["axis"], w.rank), w.rank
    shape = [extent if place == axis else 1 for place, extent in enumerate(w.shapes[0])]
    if w.call["statistics"] == "batch":
        made = standardised(w, w.x, [each for each in range(1 + rank) if each != 1 + axis])
    else:
        mean, variance = (w.shaped(w.params[name], shape) for name in ("running_mean", "running_variance"))
        made = divided(w, w.node("Sub", w.x, mean), variance)
    return weighted(w, made, shape)


def sample_norm(norm: Norm) -> Row:
    """Return how a norm of each sample is written."""

    def write(w: Writing) -> str:
        shape, first = norm.view(w.call)
        x = w.x if len(shape) == w.rank else w.shaped(w.x, shape)
        made = standardised(w, x, range(1 + first, 1 + len(shape)), centred=norm.centred)
        made = made if len(shape) == w.rank else w.shaped(made, w.shapes[0])
        start, stop = norm.weighted(w.call)
        return weighted(w, made, [n if start <= place < stop else 1 for place, n in enumerate(w.shapes[0])])

    return write


def layer_norm(w: Writing) -> str:
    """Return a norm over the last axes: one node where its attributes are exact and a weight follows."""
    if not (w.exact(w.call["epsilon"]) and "weight" in w.params):
        return sample_norm(LAYER)(w)
    given = [w.params[slot] for slot in ("weight", "bias") if slot in w.params]
    axis = 1 + axis_within(w.call["axis"], w.rank)
    return w.node("LayerNormalization", w.x, *given, axis=axis, epsilon=w.call["epsilon"])


def lrn(w: Writing) -> str:
    """Return the input divided by a power of the mean square over neighbouring channels."""
    size, alpha, beta, k = (w.call[name] for name in ("size", "alpha", "beta", "k"))
    axis, (before, behind) = axis_within(w.call["axis"], w.rank), window(w.call)
    if axis == 0 and w.rank == 3 and before == (size - 1) // 2 and w.exact(alpha, beta, k):
        return w.node("LRN", w.x, size=size, alpha=alpha, beta=beta, bias=k)
    widths = [before if place == 1 + axis else 0 for place in range(1 + w.rank)]
    widths += [behind if place == 1 + axis else 0 for place in range(1 + w.rank)]
    wide = w.node("Pad", w.node("Mul", w.x, w.x), w.whole(widths), 0.0)
    parts = [w.part(wide, 1 + axis, (first, first + w.shapes[0][axis], 1)) for first in range(size)]
    base = w.node("Add", w.node("Mul", w.chain("Add", parts), alpha / size), k)
    return w.node("Mul", w.x, w.node("Pow", base, -beta))


def lp_normalise(w: Writing) -> str:
    """Return the input divided by its norm along an axis, or by epsilon where that is larger."""
    axis = w.whole([1 + axis_within(w.call["axis"], w.rank)])
    norm = w.node("ReduceL1" if w.call["p"] == 1 else "ReduceL2", w.x, axis, keepdims=1)
    return w.node("Div", w.x, w.node("Max", norm, float(w.call["epsilon"])))


ROWS: dict[str, Row] = {
    "batch_norm": batch_norm, "layer_norm": layer_norm, "rms_norm": sample_norm(ROOT_MEAN_SQUARE),
    "group_norm": sample_norm(GROUP), "instance_norm": sample_norm(INSTANCE), "lrn": lrn, "lp_normalise": lp_normalise,
}  # fmt: skip

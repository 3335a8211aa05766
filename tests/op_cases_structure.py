"""What rearranges, indexes and contracts: what each op means for one sample in autograd's NumPy, and cases of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import autograd.numpy as anp
import numpy as np
from autograd.tracer import getval
from op_case import Case

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def pad(call, params, x):
    """Each margin is made of single elements: autograd knows padding with constants alone."""
    for axis, (before, after) in enumerate(call["widths"]):
        x = anp.swapaxes(x, 0, axis)
        x = x[max(-before, 0) : len(x) + min(after, 0)]
        mode = {"mode": call["mode"]} | ({"constant_values": -1} if call["mode"] == "constant" else {})
        places = np.pad(np.arange(len(x)), (max(before, 0), max(after, 0)), **mode)
        rows = [x[place] if place >= 0 else call["value"] + 0.0 * x[0] for place in places]
        x = anp.swapaxes(anp.array(rows), 0, axis)
    return x


def flipped(call, params, x):
    chosen = range(x.ndim) if call["axes"] is None else [axis % x.ndim for axis in call["axes"]]
    return x[tuple(slice(None, None, -1 if axis in chosen else 1) for axis in range(x.ndim))]


def tiled(call, params, x):
    """Autograd is wrong where there are fewer repeats than axes."""
    return anp.tile(x, (1,) * (x.ndim - len(call["repeats"])) + call["repeats"])


def einsum(call, params, *inputs):
    """Each label that an input has twice is a label of its own, times the identity: autograd knows no diagonals."""
    left, arrow, right = call["equation"].partition("->")
    if not arrow:
        right = "..." * ("..." in left) + "".join(sorted(n for n in left if n.isalpha() and left.count(n) == 1))
    terms, arrays, spare = left.split(","), list(inputs), iter("ZYX")
    for number, x in enumerate(inputs):
        for place, label in enumerate(terms[number]):
            if label != "." and label in terms[number][:place]:
                other, term = next(spare), terms[number]
                terms[number] = term[:place] + other + term[place + 1 :]
                terms.append(label + other)
                arrays.append(np.eye(x.shape[place]))
    return anp.einsum(",".join(terms) + "->" + right, *arrays)


def reshaped(call, params, x):
    return anp.reshape(x, call.shape)


def flat_places(call, shape):
    """Return the place in the flattened input that each index along an axis means."""
    found = np.asarray(call["indices"])
    places = list(np.indices(found.shape))
    places[call["axis"]] = found % shape[call["axis"]]
    return np.ravel_multi_index(places, shape)


def gather(call, params, x):
    return x[(slice(None),) * (call["axis"] % x.ndim) + (np.asarray(call["indices"]),)]


def take_along(call, params, x):
    return anp.reshape(x, -1)[flat_places(call, x.shape)]


def scatter(call, params, x, updates):
    places = flat_places(call, x.shape).ravel()
    one_each = np.eye(x.size)[places]
    moved = anp.reshape(anp.dot(anp.reshape(updates, -1), one_each), x.shape)
    return moved + x * (1 if call["reduction"] == "add" else 1 - one_each.sum(axis=0).reshape(x.shape))


def scatter_add(call, params, x):
    one_each = np.eye(call["extent"])[np.asarray(call["indices"]).ravel()]
    return anp.tensordot(one_each.T, anp.reshape(x, (one_each.shape[0], -1)), 1).reshape(call.shape)


def top_k(call, params, x):
    axis = call["axis"] % x.ndim
    order = np.argsort((-1 if call["largest"] else 1) * getval(x), axis=axis, kind="stable")
    order = np.take(order, range(call["k"]), axis)
    places = list(np.indices(order.shape))
    places[axis] = order if call["sorted"] else np.sort(order, axis=axis)
    return x[tuple(places)]


def reverse_sequence(call, params, x):
    places = list(np.indices(x.shape))
    time, length = places[call["axis"]], np.asarray(call["indices"])[places[call["sequences"]]]
    places[call["axis"]] = np.where(time < length, length - 1 - time, time)
    return x[tuple(places)]


def resize(call, params, x):
    """Halves and doubles, half a pixel in."""
    for axis, (after, before) in enumerate(zip(call.shape, x.shape, strict=True)):
        at = (np.arange(after) + 0.5) * before / after - 0.5
        if call["mode"] == "nearest":
            matrix = np.eye(before)[np.ceil(at - 0.5).astype(int).clip(0, before - 1)]
        else:
            at = at.clip(0, before - 1)
            matrix = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(before)))
        x = anp.moveaxis(anp.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


MEANING: dict[str, Callable[..., Any]] = {
    "squeeze": reshaped,
    "unsqueeze": reshaped,
    "flatten": reshaped,
    "flip": flipped,
    "trilu": lambda call, params, x: (anp.triu if call["upper"] else anp.tril)(x, call["diagonal"]),
    "pad": pad,
    "expand": lambda call, params, x: x * np.ones(call.shape),
    "tile": tiled,
    "matmul": lambda call, params, a, b: anp.matmul(a, b),
    "einsum": einsum,
    "gather": gather,
    "take_along": take_along,
    "scatter": scatter,
    "scatter_add": scatter_add,
    "top_k": top_k,
    "reverse_sequence": reverse_sequence,
    "resize": resize,
}


def case(op: str, *shapes: tuple[int, ...], low: float = -2.0, **attributes: Any) -> Case:
    """Return a case that means what ``MEANING`` says of its op."""

    def reference(params, *inputs):
        return MEANING[op](made.call, params, *inputs)

    made = Case(op, shapes, reference, attributes, low)
    return made


STRUCTURE: list[Case] = [
    case("squeeze", (1, 3, 1)),
    case("squeeze", (1, 3, 1), axes=[-1]),
    case("squeeze", ()),
    case("unsqueeze", (3,), axes=[0, -1]),
    case("unsqueeze", (), axes=0),
    case("flatten", (2, 3, 2)),
    case("flatten", (2, 3, 2), start=1),
    case("flatten", (2, 3, 2), end=-2),
    case("flatten", ()),
    case("flip", (2, 3)),
    case("flip", (2, 3), axes=[-1]),
    case("trilu", (3, 4)),
    case("trilu", (2, 3, 3), upper=True, diagonal=1),
    case("trilu", (3, 2), diagonal=-1),
    case("pad", (), widths=[]),
    case("pad", (2, 3), widths=[[0, 1], [2, 0]], value=0.5),
    case("pad", (4, 3), widths=[[-1, 2], [0, -2]]),
    case("pad", (2, 4), widths=[[0, 0], [2, 1]], mode="reflect"),
    case("pad", (2, 3), widths=[[1, 2], [0, 3]], mode="edge"),
    case("pad", (2, 3), widths=[[2, 3], [1, 1]], mode="wrap"),
    case("pad", (2, 5), widths=[[1, 0], [-2, 4]], mode="reflect"),
    case("expand", (3, 1), shape=[2, 1, 4]),
    case("expand", (), shape=[2, 2]),
    case("expand", (2, 3), shape=[1]),
    case("tile", (2, 3), repeats=[2, 3]),
    case("tile", (2, 3), repeats=[2]),
    case("tile", (3,), repeats=[2, 1, 2]),
    case("gather", (2, 4), indices=[[0, -1], [2, 0]], axis=1),
    case("gather", (3,), indices=1),
    case("take_along", (3, 2), indices=[[0, -1], [2, 2], [0, 1], [0, 0]]),
    case("scatter", (3, 2), (2, 1), indices=[[2], [-3]]),
    case("scatter", (2, 3), (2, 2), indices=[[0, 0], [2, 1]], axis=1, reduction="add"),
    case("scatter_add", (3, 2), indices=[1, 1, 3], extent=4),
    case("scatter_add", (2, 2), indices=[[0, 1], [1, -1]], extent=3),
    case("top_k", (2, 4), k=2),
    case("top_k", (4, 2), k=3, axis=0, largest=False),
    case("top_k", (5,), k=3, sorted=False),
    case("reverse_sequence", (3, 2), indices=[2, 3]),
    case("reverse_sequence", (2, 2, 3), indices=[0, 2], axis=2, sequences=0),
    case("resize", (3, 4), size=[6, 2]),
    case("resize", (3, 4), scales=[2.0, 0.5], mode="linear"),
    *(
        case("matmul", a, b)
        for a, b in [
            ((5, 2, 3), (3, 4)),
            ((2, 3), (5, 3, 4)),
            ((5, 2, 3), (5, 3, 4)),
            ((2, 1, 2, 3), (4, 3, 2)),
            ((3,), (2, 3, 4)),
            ((2, 2, 3), (3,)),
        ]
    ),
    *(
        case("einsum", *shapes, equation=equation)
        for equation, shapes in [
            ("ij,jk->ik", [(2, 3), (3, 2)]),
            ("ij , jk", [(2, 3), (3, 2)]),
            ("ij->ji", [(2, 3)]),
            ("ij->", [(2, 3)]),
            ("ij->j", [(2, 3)]),
            ("ii->i", [(3, 3)]),
            ("ii", [(3, 3)]),
            ("iij,j->i", [(2, 2, 3), (3,)]),
            ("i,j->ij", [(2,), (3,)]),
            ("i,i->i", [(3,), (3,)]),
            ("...ij,...kj->...ik", [(2, 2, 3), (2, 4, 3)]),
            ("...i,i->...", [(2, 3), (3,)]),
            ("ab,bc,cd->ad", [(2, 3), (3, 2), (2, 4)]),
            ("ab,b,ac->c", [(2, 3), (3,), (2, 2)]),
            ("i,,i->i", [(3,), (), (3,)]),
            ("bhqd,bhkd->bhqk", [(1, 2, 3, 2), (1, 2, 4, 2)]),
            ("ab,ca->", [(2, 3), (2, 2)]),
        ]
    ),
]
STRUCTURE_REFUSED: list[tuple[str, tuple[tuple[int, ...], ...], dict[str, Any], str]] = [
    ("squeeze", ((2, 1),), {"axes": [0]}, "axis 0 has extent 2, expected axes of extent 1"),
    ("unsqueeze", ((2,),), {"axes": [2]}, "axis 2: expected -2 to 1"),
    ("unsqueeze", ((2,),), {"axes": [0, -3]}, "each axis once"),
    ("unsqueeze", ((2,),), {}, "needs the attribute 'axes'"),
    ("flatten", ((2, 3),), {"start": 1, "end": 0}, "start 1 lies behind end 0"),
    ("flatten", ((2, 3),), {"end": 2}, "axis 2: expected -2 to 1"),
    ("flip", ((2,),), {"axes": 1}, "axis 1: expected -1 to 0"),
    ("trilu", ((2,),), {}, "expected an input of two axes or more"),
    ("pad", ((2, 3),), {"widths": [[1, 1]]}, "for each of 2 axes, got 1"),
    ("pad", ((2,),), {"widths": [1, 1]}, r"expected \[before, after\] for each axis"),
    ("pad", ((2,),), {"widths": [[1, 0.5]]}, "expected a whole number"),
    ("pad", ((2,),), {"widths": [[-1, -1]]}, "nothing is left of the 2 elements along axis 0"),
    ("pad", ((2,),), {"widths": [[1, 1]], "mode": "mirror"}, "expected a mode"),
    ("expand", ((2,),), {"shape": [3]}, "expected a shape that"),
    ("tile", ((2,),), {"repeats": [0]}, "expected a positive whole number"),
    ("tile", ((2,),), {"repeats": 2}, "expected a list of whole numbers, one for each axis"),
    ("top_k", ((2, 3),), {"k": 4}, "k is 4, expected at most the 3 elements along axis 1"),
    ("resize", ((2,),), {}, "expected either size or scales"),
    ("resize", ((2,),), {"size": [2], "scales": [1]}, "expected either size or scales"),
    ("resize", ((2,),), {"size": [2, 3]}, "expected 1 entries of size, one for each axis, got 2"),
    ("resize", ((2,),), {"scales": [0]}, "expected a list of numbers above 0"),
    ("resize", ((2,),), {"scales": [0.1]}, "nothing is left along an axis"),
    ("resize", ((2,),), {"size": [2], "roi": [[0, 1]]}, "expected roi with the coordinates tf_crop_and_resize"),
    ("resize", ((2,),), {"size": [2], "mode": "area"}, "expected a mode"),
    ("einsum", ((2,),), {"equation": "ij->i"}, "the term 'ij' does not fit an input of 1 axes"),
    ("einsum", ((2,),), {"equation": "i,i"}, "the equation has 2 terms for 1 inputs"),
    ("einsum", ((2,),), {"equation": "i->j"}, "label 'j' of the result stands in no input"),
    ("einsum", ((2,),), {"equation": "i->ii"}, "each label of the result once"),
    ("einsum", ((2,), (3,)), {"equation": "i,i"}, "axes of label 'i' have extents 2 and 3"),
    ("einsum", ((2, 3), (3, 3)), {"equation": "...j,...j"}, "axes of an ellipsis have extents 2 and 3"),
    ("einsum", ((2,),), {"equation": "i1"}, "expected letters"),
    ("einsum", ((2,),), {"equation": 3}, "expected an equation"),
]
"""Op, shapes of the inputs, attributes, and what is said of them."""

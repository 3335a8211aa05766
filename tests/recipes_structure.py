"""How random graphs use the ops that rearrange, index and contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from strategies import Draft


def _has_axes(shape: tuple[int, ...]) -> bool:
    return len(shape) > 0


def _matmul(draft: Draft) -> str:
    a = draft.bounded(draft.pick(_has_axes))
    inner = draft.shapes[a][-1]
    front = draft.shapes[a][:-2] if draft.chance(0.5) else ()
    fallback = draft.choose([(inner,), (inner, 2), (*front, inner, 2)])
    b = draft.pick(lambda shape: shape in ((inner,), (inner, inner), (inner, 2), (*front, inner, 2)), fallback)
    return draft.add("matmul", a, draft.bounded(b))


def _einsum(draft: Draft) -> str:
    a = draft.bounded(draft.pick(_has_axes))
    inner = draft.shapes[a][-1]
    b = draft.bounded(draft.pick(lambda shape: len(shape) == 2 and shape[1] == inner, (2, inner)))
    return draft.add("einsum", a, b, equation=draft.choose(["...i,ji->...j", "...i,ji->i..."]))


def _pad(draft: Draft) -> str:
    name = draft.pick()
    widths = [[int(w) for w in draft.rng.integers(0, 3, 2)] for _ in draft.shapes[name]]
    return draft.add("pad", name, widths=widths, mode=draft.choose(["constant", "constant", "reflect", "edge", "wrap"]))


def _tile(draft: Draft) -> str:
    name = draft.pick()
    return draft.add("tile", name, repeats=draft.choose([[2], [1, 2], [1] * len(draft.shapes[name])]))


def _expand(draft: Draft) -> str:
    name = draft.pick()
    return draft.add("expand", name, shape=draft.choose([[2, *draft.shapes[name]], list(draft.shapes[name])]))


def _unsqueeze(draft: Draft) -> str:
    return draft.add("unsqueeze", draft.pick(lambda shape: len(shape) < 3), axes=draft.choose([[0], [-1]]))


def _gather(draft: Draft) -> str:
    name = draft.pick(_has_axes)
    extent, count = draft.shapes[name][0], int(draft.rng.integers(1, 4))
    return draft.add("gather", name, indices=draft.rng.integers(-extent, extent, count).tolist())


def _scatter_add(draft: Draft) -> str:
    name = draft.pick(_has_axes)
    return draft.add("scatter_add", name, indices=draft.rng.integers(0, 3, draft.shapes[name][0]).tolist(), extent=3)


def _resize(draft: Draft) -> str:
    name = draft.pick(_has_axes)
    size = [extent * draft.choose([1, 2]) for extent in draft.shapes[name]]
    return draft.add("resize", name, size=size, mode=draft.choose(["nearest", "linear"]))


STRUCTURE_RECIPES: dict[str, Callable[[Draft], str]] = {
    "matmul": _matmul,
    "einsum": _einsum,
    "pad": _pad,
    "tile": _tile,
    "expand": _expand,
    "unsqueeze": _unsqueeze,
    "gather": _gather,
    "scatter_add": _scatter_add,
    "resize": _resize,
    "top_k": lambda draft: draft.add("top_k", draft.add("affine", draft.pick(_has_axes), units=3), k=2),
    "squeeze": lambda draft: draft.add("squeeze", draft.pick()),
    "flatten": lambda draft: draft.add("flatten", draft.pick()),
    "flip": lambda draft: draft.add("flip", draft.pick(_has_axes)),
    "trilu": lambda draft: draft.add("trilu", draft.pick(lambda shape: len(shape) == 2, (2, 3))),
}

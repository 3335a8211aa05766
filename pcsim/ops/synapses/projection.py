"""The sparse projection of one population on another, every synapse with its own weight and delay.

The op has one input for each distinct delay of its synapses, all from the population before: parallel
edges, so that what delays mean is said by the edges alone. Laid end to end, the inputs are what one sparse
matrix of weights multiplies, whose rows are neurons after and whose columns are pairs of delay and neuron before.
"""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.arrays import LEAD, Array, sparse, unbroadcast
from pcsim.errors import InputError, wrong
from pcsim.ops.attributes import boolean, optional, positive, takes, whole
from pcsim.ops.elementwise import ACTIVATIONS, activation
from pcsim.ops.leading import fold, lead
from pcsim.ops.op import Attribute, Call, Cost, Factors, Op, ParameterSpec, Realised, Site
from pcsim.ops.segment_sums import segment_sums
from pcsim.ops.synapses.connect import connect, connection, grids_of
from pcsim.ops.synapses.delays import delays, drawn
from pcsim.ops.synapses.sampling import Wanted
from pcsim.ops.synapses.synapse import Synapses, arranged

if TYPE_CHECKING:
    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved

CHUNK = 1 << 20
"""Products of the weight's derivative that are held at a time."""


# -- what a document says --------------------------------------------------------------------------------


@takes(type="integer", minimum=0)
def _seed(value: Any) -> int:
    if not 0 <= (found := whole(value)) < 2**63:
        raise ValueError("expected a whole number, 0 or more")
    return found


def given_synapses(value: Any) -> Synapses | None:
    """Return synapses made in Python."""
    if value is not None and not isinstance(value, Synapses):
        raise ValueError("expected Synapses, made in Python; a document says how to 'connect'")
    return value


def realise(attributes: tuple[tuple[str, Any], ...], site: Site) -> Realised:
    """Draw or read the synapses, and take the input once for each of their delays."""
    given = dict(attributes)
    if any(len(shape) != 1 for shape in site.shapes):
        raise wrong("inputs", f"a population has one axis of neurons, got {', '.join(map(str, site.shapes))}")
    synapses = given["synapses"] or _synapses(given, site)
    count, expected = len(site.shapes), len(synapses.delays) if given["inputs_by_delay"] else 1
    if count != expected:
        why = "one for each distinct delay" if given["inputs_by_delay"] else "the population before"
        raise wrong("inputs", f"op 'projection' got {count} inputs, expected {expected}, {why}")
    known = tuple(sorted({**given, "synapses": synapses, "inputs_by_delay": True}.items()))
    if given["inputs_by_delay"]:
        return Realised(known, tuple(range(count)), (0,) * count)
    return Realised(known, (0,) * len(synapses.delays), synapses.delays)


def _synapses(given: dict[str, Any], site: Site) -> Synapses:
    if given["connect"] is None:
        message = "op 'projection' needs the attribute 'connect': a rule such as {rule: fixed_in_degree, degree: 10}"
        raise wrong("connect", message)
    wanted = Wanted(site.shapes[0][0], given["units"], site.draws(given["seed"], "synapses"), site.folder)
    try:
        found = connect(given["connect"], wanted)
    except InputError as error:
        raise error.map(lambda problem: problem.under("connect")) from None
    wish = given["delays"]
    grids = grids_of(given["connect"], wish, wanted.before, wanted.after)
    delay = found.delay if wish is None else drawn(wish, found, grids, site.draws(given["seed"], "delays"))
    sizes = {"fan_out": wanted.before, "units": wanted.after}
    try:
        made = arranged(found.pre, found.post, 0 if delay is None else delay, weight=found.weight, **sizes)
        return replace(made, notes=found.notes)
    except ValueError as error:
        raise wrong("delays", str(error)) from None


# -- what a vertex computes ------------------------------------------------------------------------------


def projection_shape(call: Call) -> Shape:
    """Return (units,)."""
    synapses = call["synapses"]
    if synapses is None:
        raise ValueError("expected synapses; they are drawn as 'connect' says when a graph is made")
    if synapses.units != call["units"]:
        message = f"expected synapses on {call['units']} neurons, got {synapses}"
        raise ValueError(message)
    if call.shapes != ((synapses.fan_out,),) * len(synapses.delays):
        message = f"expected {len(synapses.delays)} inputs of shape ({synapses.fan_out},), one for each distinct delay"
        raise ValueError(message)
    return (synapses.units,)


def projection_params(call: Call) -> dict[str, ParameterSpec]:
    """Return a weight for each synapse, in their order, and where wanted the bias."""
    synapses = call["synapses"]
    start = ("uniform_fan_in" if synapses.weight is None else "connect", None)
    fans = (synapses.fan_in, synapses.mean_fan_out)
    weight = {"weight": ParameterSpec((len(synapses),), start, *fans)}
    return weight | ({"bias": ParameterSpec((synapses.units,), fan_in=fans[0])} if call["bias"] else {})


def end_to_end(xp: Namespace, inputs: Inputs) -> Array:
    """Return the inputs, one for each delay, laid end to end: (stack, batch, delays * neurons before)."""
    if len(inputs) == 1:
        return inputs[0]
    front = lead(inputs)
    return xp.concatenate([xp.broadcast_to(x, (*front, x.shape[-1])) for x in inputs], axis=-1)


def by_weights(weight: Array, x: Array) -> list[Array]:
    """Return the rows of x, (rows, neurons), that each row of weights multiplies."""
    rows = x.shape[:1] if weight.shape[0] > 1 else (1,)
    parts = x.reshape(rows[0], -1, x.shape[-1])
    return [parts[row if rows[0] > 1 else 0] for row in range(weight.shape[0])]


def product(xp: Namespace, synapses: Synapses, weight: Array, x: Array) -> Array:
    """Return W x: (stack, synapses) and (stack, batch, columns) -> (stack, batch, units)."""
    index = (synapses.on(xp, "columns"), synapses.on(xp, "starts"))
    shape = (synapses.units, synapses.width)
    parts = [_product(xp, row, index, shape, rows.T).T for row, rows in zip(weight, by_weights(weight, x), strict=True)]
    return _stacked(xp, parts, weight, x)


def transposed_product(xp: Namespace, synapses: Synapses, weight: Array, g: Array) -> Array:
    """Return W^T g: (stack, synapses) and (stack, batch, units) -> (stack, batch, columns)."""
    parts = [
        _transposed_product(xp, synapses, row, rows.T).T
        for row, rows in zip(weight, by_weights(weight, g), strict=True)
    ]
    return _stacked(xp, parts, weight, g)


def _stacked(xp: Namespace, parts: list[Array], weight: Array, x: Array) -> Array:
    found = parts[0] if len(parts) == 1 else xp.stack(parts)
    return found.reshape(max(weight.shape[0], x.shape[0]), x.shape[1], -1)


def _product(xp: Namespace, weight: Array, index: tuple[Array, Array], shape: Shape, x: Array) -> Array:
    """Return the product of a sparse matrix, with columns and starts of rows in ``index``, and a matrix."""
    if xp is np:
        return sparse(xp).csr_matrix((weight, *index), shape=shape) @ x
    columns, starts = index
    return segment_sums(xp, columns, starts[:-1], starts[1:], x, weight)


def _transposed_product(xp: Namespace, synapses: Synapses, weight: Array, g: Array) -> Array:
    """Return the product of the transposed matrix of one row of weights and a matrix.

    SciPy adds up its products in the order of the synapses; on a device only rows are added up in a fixed order.
    """
    shape = (synapses.width, synapses.units)
    if xp is np:
        return sparse(xp).csc_matrix((weight, synapses.columns, synapses.starts), shape=shape) @ g
    order = synapses.on(xp, "order")
    index = (synapses.on(xp, "post")[order], synapses.on(xp, "column_starts"))
    return _product(xp, weight[order], index, shape, g)


def projection_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return f(W x + b), and keep the slope; nothing where f is the identity."""
    f = ACTIVATIONS[call["activation"]]
    z = product(xp, call["synapses"], params["weight"], end_to_end(xp, inputs))
    if "bias" in params:
        z = z + params["bias"][:, None]
    y = f.f(xp, z)
    return y, () if f.slope is None else (f.slope(xp, z, y),)


def at_sum(xp: Namespace, mu: Array, saved: Saved, g: Array) -> Array:
    """Return the error at W x + b, of the extents that mu has."""
    d = unbroadcast(xp, g, mu.shape)
    return saved[0] * d if saved else d


def meet(xp: Namespace, d: Array, x: Array, weight: Array) -> Array:
    """Sum an error over the leading axes along which W x was broadcast (to meet a bias)."""
    return unbroadcast(xp, d, (max(x.shape[0], weight.shape[0]), x.shape[1], *d.shape[LEAD:]))


def projection_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return W^T (f' g), cut into one message for each delay."""
    synapses, weight = call["synapses"], params["weight"]
    front = np.empty((*lead(inputs), 0))
    d = meet(xp, at_sum(xp, mu, saved, g), front, weight)
    back = transposed_product(xp, synapses, weight, d)
    size = synapses.fan_out
    return tuple(fold(xp, back[..., k * size : (k + 1) * size], x) for k, x in enumerate(inputs))


def projection_to_params(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> dict[str, Array]:
    """Return (f' g) of the neuron after times x of the neuron before, for each synapse, summed over the batch."""
    synapses, weight, x = call["synapses"], params["weight"], end_to_end(xp, inputs)
    full = at_sum(xp, mu, saved, g)
    d = meet(xp, full, x, weight)
    x = xp.broadcast_to(x, (*d.shape[:LEAD], x.shape[-1]))
    pairs = zip(by_weights(weight, d), by_weights(weight, x), strict=True)
    contributions = {"weight": xp.stack([contribution(xp, synapses, *pair) for pair in pairs])}
    if "bias" not in params:
        return contributions
    rows = full.reshape(params["bias"].shape[0], -1, full.shape[-1])
    return contributions | {"bias": xp.sum(rows, axis=1)}


def contribution(xp: Namespace, synapses: Synapses, d: Array, x: Array) -> Array:
    """Return the derivative by each weight: (rows, units) and (rows, columns) -> (synapses,), summed over rows."""
    after, before = xp.ascontiguousarray(d.T), xp.ascontiguousarray(x.T)
    post, columns = synapses.on(xp, "post"), synapses.on(xp, "columns")
    found = xp.empty(len(synapses), after.dtype)
    size = max(1, CHUNK // after.shape[1])
    for start in range(0, len(synapses), size):
        part = slice(start, start + size)
        found[part] = xp.einsum("nr,nr->n", after[post[part]], before[columns[part]])
    return found


def projection_factors(xp: Namespace, call: Call, params: Params, inputs: Inputs, g: Array) -> dict[str, Factors]:
    """Return error and slope of the neuron after each synapse, and the value of the neuron before it."""
    saved = projection_forward(xp, call, params, inputs)[1]
    x, post, columns = end_to_end(xp, inputs), call["synapses"].on(xp, "post"), call["synapses"].on(xp, "columns")
    pre = xp.broadcast_to(x, (*g.shape[:LEAD], x.shape[-1]))[0][:, columns]
    slope = xp.broadcast_to(saved[0], g.shape)[0] if saved else None
    weight = {"weight": Factors("nk,nk->k", g[0][:, post], None if slope is None else slope[:, post], pre)}
    return weight | ({"bias": Factors("nk->k", g[0], slope)} if "bias" in params else {})


def projection_cost(call: Call) -> Cost:
    """Return a multiply-add and a message for each synapse; a synapse also has a column, half a number or one."""
    count, curved = float(len(call["synapses"])), call["activation"] not in ("none", "identity")
    return Cost(count, back=1 / len(call.shapes), weights=2 * count, messages=count, curved=curved)


ROWS = (
    Op(
        name="projection",
        summary="a population with sparse synapses from another, each with its own weight and delay",
        arity=(1, None),
        shape=projection_shape,
        forward=projection_forward,
        to_inputs=projection_to_inputs,
        to_params=projection_to_params,
        params=projection_params,
        factors=projection_factors,
        slots={"weight": "a number for each synapse", "bias": "(units)"},
        cost=projection_cost,
        realise=realise,
        attributes={
            "units": Attribute(positive, required=True, summary="neurons of the population"),
            "connect": Attribute(optional(connection), summary="which neuron feeds which: {rule: ...}"),
            "delays": Attribute(
                optional(delays),
                summary="ticks: one number, or {uniform: [0, 7]}, {normal: ...}, {values: ...}, {distance: ...}",
            ),
            "activation": Attribute(
                activation, "none", summary="function applied to each element: pcsim list activations"
            ),
            "bias": Attribute(boolean, True, summary="whether a bias is added"),
            "seed": Attribute(_seed, 0, summary="of the synapses and their delays"),
            "synapses": Attribute(given_synapses, summary="Synapses made in Python", follows="connect"),
            "inputs_by_delay": Attribute(
                boolean, False, summary="inputs are one for each distinct delay already, and edges carry it"
            ),
        },
        source="rules of connection as in NEST, PyNN and SONATA",
    ),
)

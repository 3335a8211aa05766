"""Populations: the synapses that rules draw and files hold, and what arrives over each of them, and when."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from math import comb, pi, prod, sqrt
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, stats
from strategies import make_task, run_task

import pcsim
from pcsim.analysis.backprop import backprop, sweep
from pcsim.engines import open_engine
from pcsim.errors import InputError
from pcsim.graph import Graph, graph_from, level
from pcsim.graph.initialise import initialise
from pcsim.graph.interop import document_from
from pcsim.ops import OPS, Attribute, Op, ParameterSpec
from pcsim.ops.synapses.synapse import Synapses, arranged
from pcsim.program.lower import lower

FEW = {"rule": "fixed_in_degree", "degree": 3}


def document(connect: Any, before: int = 8, units: int = 6, **more: Any) -> dict[str, Any]:
    entry = {"op": "projection", "units": units, "inputs": ["x"], "connect": connect, **more}
    return {"vertices": {"x": {"op": "input", "shape": [before]}, "p": entry}}


def drawn(connect: Any, before: int = 8, units: int = 6, **more: Any) -> Synapses:
    graph = graph_from(document(connect, before, units, **more))
    synapses = graph.vertices["p"].call["synapses"]
    assert synapses.fan_out == before
    assert synapses.units == units
    return synapses


def places(synapses: Synapses) -> np.ndarray:
    return synapses.post.astype(np.int64) * synapses.fan_out + synapses.pre


def in_degrees(synapses: Synapses) -> np.ndarray:
    return np.bincount(synapses.post, minlength=synapses.units)


def out_degrees(synapses: Synapses) -> np.ndarray:
    return np.bincount(synapses.pre, minlength=synapses.fan_out)


# -- rules -------------------------------------------------------------------------------------------------

DISTANCE = {"rule": "distance_dependent", "scale": 0.05, "probability": 0.6}
DRAWN = {
    "fixed_in_degree": {"rule": "fixed_in_degree", "degree": 5},
    "most": {"rule": "fixed_in_degree", "degree": 390},
    "fixed_out_degree": {"rule": "fixed_out_degree", "degree": 4},
    "fixed_total_number": {"rule": "fixed_total_number", "number": 3000},
    "most_pairs": {"rule": "fixed_total_number", "number": 119_000},
    "fixed_probability": {"rule": "fixed_probability", "probability": 0.02},
    "distance_dependent": DISTANCE,
    "all_to_all": {"rule": "all_to_all"},
}


@pytest.mark.parametrize("name", DRAWN)
def test_synapses_are_in_canonical_order_and_no_pair_has_two(name):
    found = drawn(DRAWN[name], 400, 300, delays={"uniform": [0, 3]})
    order = np.lexsort((found.pre, found.delay, found.post))
    np.testing.assert_array_equal(order, np.arange(len(found)))
    assert len(np.unique(places(found))) == len(found)
    assert {array.dtype for array in (found.pre, found.post, found.delay)} == {np.dtype(np.int32)}
    assert not any(array.flags.writeable for array in (found.pre, found.post, found.delay))


@pytest.mark.parametrize("degree", [1, 3, 200, 390, 400])
def test_fixed_in_degree(degree):
    found = drawn({"rule": "fixed_in_degree", "degree": degree}, 400, 300)
    assert (in_degrees(found) == degree).all()
    # each neuron before is as likely as any other: its out-degree is binomial
    expected = 300 * degree / 400
    assert np.abs(out_degrees(found) - expected).max() < 5 * sqrt(300 * degree / 400 * (1 - degree / 400)) + 1e-9


@pytest.mark.parametrize("degree", [1, 3, 299, 300])
def test_fixed_out_degree(degree):
    assert (out_degrees(drawn({"rule": "fixed_out_degree", "degree": degree}, 400, 300)) == degree).all()


@pytest.mark.parametrize("number", [1, 3000, 119_000, 120_000])
def test_fixed_total_number(number):
    assert len(drawn({"rule": "fixed_total_number", "number": number}, 400, 300)) == number


@pytest.mark.parametrize("name", ["fixed_in_degree", "fixed_out_degree", "fixed_total_number"])
def test_multiple_lets_a_pair_have_several(name):
    connect = {**DRAWN[name], "multiple": True}
    connect |= {"number": 3000} if "number" in connect else {"degree": 30}
    found = drawn(connect, 20, 20)
    assert len(np.unique(places(found))) < len(found) == (3000 if "number" in connect else 600)
    if name == "fixed_in_degree":
        assert (in_degrees(found) == 30).all()


def test_every_set_of_partners_is_equally_likely():
    found = drawn({"rule": "fixed_in_degree", "degree": 3}, 6, 20_000)
    sets = found.pre.reshape(-1, 3)
    count = np.unique(sets @ [36, 6, 1], return_counts=True)[1]
    assert len(count) == comb(6, 3)
    assert stats.chisquare(count).pvalue > 1e-4


@pytest.mark.parametrize("chance", [0.001, 0.3, 0.97])
def test_fixed_probability_is_binomial(chance):
    found = drawn({"rule": "fixed_probability", "probability": chance}, 400, 300)
    assert abs(len(found) - 120_000 * chance) < 4.5 * sqrt(120_000 * chance * (1 - chance))
    bound = stats.binom(400, chance)
    assert bound.cdf(in_degrees(found).max() - 1) < 1 - 1e-6
    assert bound.cdf(in_degrees(found).min()) > 1e-6


def test_certain_and_whole_rules():
    everything = np.arange(48)
    np.testing.assert_array_equal(places(drawn({"rule": "fixed_probability", "probability": 1})), everything)
    np.testing.assert_array_equal(places(drawn({"rule": "all_to_all"})), everything)
    one = drawn({"rule": "one_to_one"}, 6)
    np.testing.assert_array_equal(one.pre, one.post)


def ring_distance(found: Synapses, before: int, after: int, periodic: bool = True) -> np.ndarray:
    apart = np.abs((found.pre + 0.5) / before - (found.post + 0.5) / after)
    return np.minimum(apart, 1 - apart) if periodic else apart


@pytest.mark.parametrize("before", [1000, 700])
@pytest.mark.parametrize("profile", ["gaussian", "exponential"])
def test_probability_falls_with_distance_as_the_profile_says(before, profile):
    """Populations of one size are drawn offset by offset, of two sizes by thinning: one law."""
    found = drawn({**DISTANCE, "profile": profile}, before, 1000)
    distance, edges = ring_distance(found, before, 1000), np.linspace(0, 0.2, 11)
    pairs = drawn({"rule": "all_to_all"}, before, 1000)
    apart = ring_distance(pairs, before, 1000)
    law = 0.6 * (np.exp(-0.5 * (apart / 0.05) ** 2) if profile == "gaussian" else np.exp(-apart / 0.05))
    expected = np.histogram(apart, edges, weights=law)[0]
    count = np.histogram(distance, edges)[0]
    assert (np.abs(count - expected) < 5 * np.sqrt(expected)).all()
    assert distance.max() <= 0.05 * (4 if profile == "gaussian" else 7)


@pytest.mark.parametrize(("before", "after"), [([20, 30], [20, 30]), ([20, 30], [25, 24])])
@pytest.mark.parametrize("periodic", [True, False])
def test_distance_on_a_grid(before, after, periodic):
    connect = {"rule": "distance_dependent", "scale": 0.08, "before": before, "after": after, "periodic": periodic}
    found = drawn(connect, 600, 600)
    square = np.zeros(len(found))
    for axis in range(2):
        here, there = np.unravel_index(found.post, after)[axis], np.unravel_index(found.pre, before)[axis]
        apart = np.abs((there + 0.5) / before[axis] - (here + 0.5) / after[axis])
        square += (np.minimum(apart, 1 - apart) if periodic else apart) ** 2
    assert square.max() <= (4 * 0.08) ** 2
    full = 600 * 600 * 2 * pi * 0.08**2
    if periodic:
        assert len(found) == pytest.approx(full, rel=0.03)
    else:  # neurons at the edge have fewer
        assert len(found) < 0.9 * full


def test_a_line_has_ends_and_a_ring_has_none():
    ring, line = (drawn({**DISTANCE, "periodic": flag}, 1000, 1000) for flag in (True, False))
    assert in_degrees(line)[[0, -1]].max() < 0.8 * in_degrees(ring).mean()
    assert np.abs(line.pre - line.post).max() <= 200
    assert np.abs(ring.pre - ring.post).max() >= 800


# -- seeds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(DRAWN) - {"all_to_all"}))
def test_synapses_depend_on_seed_and_name_alone(name):
    connect, delays = DRAWN[name], {"uniform": [0, 5]}
    alone = drawn(connect, 400, 300, delays=delays)
    assert drawn(connect, 400, 300, delays=delays) == alone
    assert drawn(connect, 400, 300, delays=delays, seed=1) != alone
    base = document(connect, 400, 300, delays=delays)
    more = {"a": {"op": "tanh", "inputs": ["x"]}, **base["vertices"]}
    more["q"] = {**base["vertices"]["p"], "units": 200, "connect": FEW}
    assert graph_from({"vertices": more}).vertices["p"].call["synapses"] == alone
    renamed = {"x": base["vertices"]["x"], "other": base["vertices"]["p"]}
    assert graph_from({"vertices": renamed}).vertices["other"].call["synapses"] != alone


def test_delays_do_not_change_who_feeds_whom():
    plain, late = (drawn(DRAWN["fixed_in_degree"], 400, 300, delays=delays) for delays in (0, {"uniform": [2, 9]}))
    np.testing.assert_array_equal(np.sort(places(plain)), np.sort(places(late)))
    assert late.delays == tuple(range(2, 10))
    count = np.bincount(late.delay)[2:]
    assert stats.chisquare(count).pvalue > 1e-4


def test_delays_of_several_kinds():
    assert drawn(FEW, delays=3).delays == (3,)
    assert drawn(FEW).delays == (0,)
    assert drawn({"rule": "all_to_all"}, 40, 40, delays={"values": [1, 5, 7]}).delays == (1, 5, 7)
    normal = drawn({"rule": "all_to_all"}, 100, 100, delays={"normal": [10, 2]}).delay
    assert normal.mean() == pytest.approx(10, abs=0.1)
    assert normal.std() == pytest.approx(sqrt(4 + 1 / 12), abs=0.1)


def ticks_between(k: int, j: int, before: list[int], after: list[int], periodic: bool, speed: float) -> int:
    """Return the ticks between two neurons, each amid its cell of a grid on the unit square, in fractions."""
    square = Fraction(0)
    for axis in range(len(before)):
        n, m = before[axis], after[axis]
        here, there = k // prod(before[axis + 1 :]) % n, j // prod(after[axis + 1 :]) % m
        apart = abs(Fraction(2 * here + 1, 2 * n) - Fraction(2 * there + 1, 2 * m))
        square += (min(apart, 1 - apart) if periodic else apart) ** 2
    return round(sqrt(square) / speed)


@given(
    st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=3),
    st.booleans(), st.sampled_from([0.01, 0.07, 0.1, 2.0]), st.integers(0, 5),
)  # fmt: skip
def test_delays_by_distance_are_those_of_a_loop_over_synapses(grids, periodic, speed, least):
    before, after = map(list, zip(*grids, strict=True))
    wish = {"speed": speed, "least": least, "before": before, "after": after, "periodic": periodic}
    found = drawn({"rule": "all_to_all"}, prod(before), prod(after), delays={"distance": wish})
    pairs = zip(found.pre.tolist(), found.post.tolist(), strict=True)
    assert found.delay.tolist() == [
        least + ticks_between(pre, post, before, after, periodic, speed) for pre, post in pairs
    ]


def test_delays_by_distance_are_on_the_grids_of_the_rule():
    connect = {**DISTANCE, "dimensions": 2, "periodic": False}
    found = drawn(connect, 400, 400, delays={"distance": {"speed": 0.02}})
    assert found.delay.tolist() == [
        ticks_between(pre, post, [20, 20], [20, 20], False, 0.02)
        for pre, post in zip(found.pre.tolist(), found.post.tolist(), strict=True)
    ]
    with pytest.raises(InputError, match=r"delays\.distance\.periodic: rule 'distance_dependent' places the neurons"):
        drawn(connect, 400, 400, delays={"distance": {"speed": 0.02, "periodic": True}})


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({}, "speed: delays by distance needs the key 'speed': extents of the grids that a message travels in a tick"),
        ({"sped": 1}, "sped: unknown key 'sped' of delays by distance; did you mean 'speed'"),
        ({"speed": 0}, "speed: got 0, expected a number above 0"),
        ({"speed": 1, "least": 0.5}, r"least: got 0\.5, expected a whole number"),
        ({"speed": 1e-9}, "speed: the longest of these distances would take .* ticks, expected at most 1,000,000"),
        ({"speed": 1, "before": [3, 3], "after": [6]}, r"before: \[3, 3\] holds 9 neurons, expected 8"),
        ({"speed": 1, "before": [4, 2]}, "before: the grids have 2 and 1 axes, expected as many"),
    ],
)
def test_mistakes_in_delays_by_distance(wish, message):
    with pytest.raises(InputError, match=rf"vertices\.p\.delays\.distance\.{message}"):
        drawn(FEW, delays={"distance": wish})


def test_equal_files_make_equal_calls_that_share_a_step(tmp_path):
    sparse.save_npz(tmp_path / "w.npz", sparse.eye(4, format="csr"))
    entry = {"op": "projection", "units": 4, "connect": {"rule": "from_file", "file": "w.npz"}}
    vertices = {"x": {"op": "input", "shape": [4]}, "p": {**entry, "inputs": ["x"]}, "q": {**entry, "inputs": ["x"]}}
    graph = graph_from({"vertices": vertices}, tmp_path)
    assert graph.vertices["p"].call == graph.vertices["q"].call
    assert hash(graph.vertices["p"].call) == hash(graph.vertices["q"].call)
    task = make_task(graph, "il", ticks=4)
    assert [step.names for step in lower(graph, task.rule).steps] == [("p", "q")]
    check_engines_agree(task)


# -- files -------------------------------------------------------------------------------------------------

PRE, POST, DELAY, WEIGHT = np.array([7, 0, 3, 3]), np.array([0, 5, 2, 2]), np.array([2, 0, 1, 0]), np.arange(1.0, 5.0)


def write_parquet(path, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)


def write_sonata(path, population="a_to_b", source=PRE, target=POST, group=None, **columns):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "a") as file:
        edges = file.create_group(f"edges/{population}")
        edges["source_node_id"], edges["target_node_id"] = source.astype(np.uint64), target.astype(np.uint64)
        edges["edge_group_id"] = np.zeros(len(source), np.uint32) if group is None else group
        edges["edge_group_index"] = np.arange(len(source), dtype=np.uint64)
        for name, column in columns.items():
            edges[f"0/{name}"] = column


def in_file(name, **more):
    return {"rule": "from_file", "file": str(name), **more}


def check_file(tmp_path, name, weights=True, **more):
    graph = graph_from(document(in_file(name, **more)), tmp_path)
    found = graph.vertices["p"].call["synapses"]
    assert found == arranged(PRE, POST, DELAY, fan_out=8, units=6)
    assert found.post.tolist() == [0, 2, 2, 5]
    assert found.delay.tolist() == [2, 0, 1, 0]
    if weights:
        assert initialise(graph, 0)["p.weight"].tolist() == [1.0, 4.0, 3.0, 2.0]


def test_parquet(tmp_path):
    write_parquet(tmp_path / "s.parquet", pre=PRE, post=POST, delay=DELAY, weight=WEIGHT, other=WEIGHT)
    check_file(tmp_path, "s.parquet")
    write_parquet(tmp_path / "ms.parquet", post=POST.astype(np.uint8), pre=PRE, delay=DELAY * 0.1)
    check_file(tmp_path, "ms.parquet", weights=False, tick=0.1)


def test_columns_are_read_or_named(tmp_path):
    write_parquet(tmp_path / "s.parquet", pre=PRE, post=POST, delay=DELAY, other=WEIGHT, weight=WEIGHT)
    assert drawn(in_file(tmp_path / "s.parquet")).notes == ("s.parquet: columns that are not read: other",)
    assert drawn(in_file(tmp_path / "s.parquet", ignore=["other"])).notes == ()
    assert drawn(in_file(tmp_path / "s.parquet", ignore=["other", "delay"])).delays == (0,)
    with pytest.raises(InputError, match=r"connect\.ignore: .* has no column 'othr'; did you mean 'other'"):
        drawn(in_file(tmp_path / "s.parquet", ignore=["othr"]))
    with pytest.raises(
        InputError, match=r"connect\.types: is for files that end in \.h5, \.hdf5, and the file is s\.par"
    ):
        drawn(in_file(tmp_path / "s.parquet", types="types.csv"))
    write_parquet(tmp_path / "s.parquet", pre=PRE, post=POST, dealy=DELAY)
    with pytest.raises(InputError, match="unknown column 'dealy'; did you mean 'delay'"):
        drawn(in_file(tmp_path / "s.parquet"))


def test_sonata(tmp_path):
    write_sonata(tmp_path / "s.h5", delay=DELAY.astype(float), syn_weight=WEIGHT)
    check_file(tmp_path, "s.h5")
    write_sonata(tmp_path / "s.h5", "other", PRE[::-1], POST[::-1], delay=DELAY[::-1], weight=WEIGHT[::-1])
    with pytest.raises(InputError, match=re.escape("holds the edges a_to_b, other")):
        drawn(in_file(tmp_path / "s.h5"))
    check_file(tmp_path, "s.h5", edges="other")


def test_scipy_matrix_is_neurons_after_by_neurons_before(tmp_path):
    matrix = sparse.random(6, 8, 0.4, random_state=1)
    for form in ("csr", "coo", "csc"):
        sparse.save_npz(tmp_path / "w.npz", matrix.asformat(form))
        graph = graph_from(document(in_file("w.npz"), bias=False), tmp_path)
        task = make_task(graph, "fpa", batch=1)
        task = replace(task, parameters=initialise(graph, 0))
        mu = sweep(task)["p"].mu[0, 0]
        np.testing.assert_allclose(mu, matrix @ task.inputs["x"][0], rtol=1e-13)


@pytest.mark.parametrize("shape", [(5, 5), (8, 6)])
def test_a_matrix_of_another_shape_is_refused(tmp_path, shape):
    sparse.save_npz(tmp_path / "w.npz", sparse.csr_matrix(shape))
    message = f"shape {shape}, expected (6, 8): rows are neurons after, columns neurons before"
    with pytest.raises(InputError, match=re.escape(message)):
        graph_from(document(in_file("w.npz"), bias=False), tmp_path)


def test_weights_of_a_file_give_way_to_init(tmp_path):
    sparse.save_npz(tmp_path / "w.npz", sparse.eye(4, format="csr"))
    entry = document(in_file("w.npz"), 4, 4, init={"weight": {"constant": 0.5}})
    assert initialise(graph_from(entry, tmp_path), 0)["p.weight"].tolist() == [0.5] * 4


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"pre": PRE, "target": POST}, "has no column 'post'"),
        ({"pre": PRE, "post": POST - 1}, "there is no post -1 of synapse 0: the population has 6 neurons"),
        ({"pre": PRE + 1, "post": POST}, "there is no pre 8 of synapse 0: the population has 8 neurons"),
        ({"pre": PRE * 1.0, "post": POST}, "column pre holds float64 numbers, expected whole numbers"),
        ({"pre": PRE, "post": POST, "delay": DELAY - 1}, "synapse 1 has delay -1, expected a whole number of ticks"),
        ({"pre": PRE, "post": POST, "delay": DELAY / 2}, "synapse 2 has delay 0.5, .* give its length as 'tick'"),
        ({"pre": PRE, "post": POST, "delay": DELAY + 2_000_000}, "expected a whole number of ticks, 0 to 1,000,000"),
        ({"pre": PRE, "post": POST, "weight": WEIGHT * np.nan}, "weight of synapse 0 is missing or not finite"),
        ({"pre": PRE, "post": [2, None, 1, 0]}, "post of synapse 1 is missing or not finite, expected a finite number"),
        ({"pre": PRE, "post": ["a", "b", "c", "d"]}, "column post holds what is no number, such as 'a'"),
        ({"pre": [], "post": []}, "s.parquet holds no synapse"),
    ],
)  # fmt: skip
def test_bad_files(tmp_path, columns, message):
    write_parquet(tmp_path / "s.parquet", **columns)
    with pytest.raises(InputError, match=f"vertices.p.connect.file: .*({message})"):
        drawn(in_file(tmp_path / "s.parquet"))


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "s.parquet").write_text("no table")
    (tmp_path / "s.h5").write_text("no file")
    (tmp_path / "w.npz").write_text("no matrix")
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    for name in ("s.parquet", "s.h5", "w.npz", "a.npz", "missing.npz"):
        with pytest.raises(InputError, match=f"connect.file: cannot read .*{name}"):
            drawn(in_file(tmp_path / name))
    with pytest.raises(InputError, match=r"expected one of \.npz, \.parquet, \.h5, \.hdf5, got s\.csv"):
        drawn(in_file(tmp_path / "s.csv"))


def test_files_are_sought_beside_the_document(tmp_path):
    (tmp_path / "graphs").mkdir()
    sparse.save_npz(tmp_path / "graphs/w.npz", sparse.eye(3, format="csr"))
    (tmp_path / "graphs/g.yaml").write_text(
        "vertices:\n  x: {op: input, shape: [3]}\n"
        "  p: {op: projection, units: 3, inputs: [x], connect: {rule: from_file, file: w.npz}}\n"
    )
    (tmp_path / "s.yaml").write_text("graph: {file: graphs/g.yaml}\ninputs: {x: 1}\ntargets: {p: 0}\nrule: il\n")
    assert len(pcsim.load_graph(tmp_path / "graphs/g.yaml").vertices["p"].call["synapses"]) == 3
    run = pcsim.simulate(tmp_path / "s.yaml", {"rule.ticks": 2}, out=tmp_path / "run")
    assert pcsim.open_run(tmp_path / "run").summary == run.summary
    assert pcsim.parameters(pcsim.load(tmp_path / "s.yaml"))["p.weight"].tolist() == [1, 1, 1]


# -- mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("connect: {rule: fixed_indegree, degree: 3}", ("3:62: vertices.p.connect.rule: unknown connection rule "
         "'fixed_indegree'; did you mean 'fixed_in_degree'?")),
        ("connect: {rule: fixed_probability, probability: 1.5}", ("3:94: vertices.p.connect.probability: got 1.5, "
         "expected a probability from 0 to 1")),
        ("connect: {rule: fixed_in_degree, degree: 9}", ("vertices.p.connect.degree: is 9, but the population before "
         "has 8 neurons; or say multiple: true")),
        ("connect: {rule: fixed_out_degree, degree: 7}", "the population after has 6 neurons"),
        ("connect: {rule: fixed_total_number, number: 49}", "connect.number: is 49, but there are 48 pairs"),
        ("connect: {rule: fixed_in_degree, degre: 3}", ("connect.degre: unknown key 'degre' of rule 'fixed_in_degree'; "
         "did you mean 'degree'?")),
        ("connect: {rule: fixed_in_degree}", "connect.degree: rule 'fixed_in_degree' needs the key 'degree'"),
        ("connect: {rule: fixed_in_degree, degree: 2.5}", "connect.degree: got 2.5, expected a whole number"),
        ("connect: {rule: one_to_one}", "connect.rule: one_to_one needs populations of one size, got 8 and 6"),
        ("connect: {rule: fixed_probability, probability: 0}", "connect: makes no synapse"),
        ("connect: all_to_all", "connect: got 'all_to_all', expected a rule such as"),
        ("seed: 1", "connect: op 'projection' needs the attribute 'connect'"),
        ("connect: {rule: all_to_all}, delays: -1", "delays: got -1, expected a whole number of ticks, 0 or more"),
        ("connect: {rule: all_to_all}, delays: 1.5", "delays: got 1.5, expected a whole number"),
        ("connect: {rule: all_to_all}, delays: {uniform: [3, 1]}", "delays.uniform: got .*the second no less than"),
        ("connect: {rule: all_to_all}, delays: {unifrom: [3, 1]}", ("delays.unifrom: unknown key 'unifrom' of delays; "
         "did you mean 'uniform'?")),
        ("connect: {rule: all_to_all}, delays: {}", "delays: got {}, expected a number of ticks, or exactly one of"),
        ("connect: {rule: all_to_all}, conect: 1", "unknown key 'conect' of op 'projection'; did you mean 'connect'?"),
        ("connect: {rule: distance_dependent, scale: 0.1, dimensions: 2}", "8 neurons fill no grid of 2 equal axes"),
        ("connect: {rule: distance_dependent, scale: 0.1, before: [3, 3], after: [2, 3]}",
         r"connect.before: \[3, 3\] holds 9 neurons, expected 8"),
        ("connect: {rule: distance_dependent, scale: 0}", "connect.scale: got 0, expected a number above 0"),
        ("connect: {rule: from_file, file: none.npz}", "connect.file: cannot read none.npz: no such file"),
        ("connect: {rule: all_to_all}, inputs_by_delay: true, delays: {values: [1]}, inputs: [x, x]",
         "got 2 inputs, expected 1, one for each distinct delay"),
    ],
)  # fmt: skip
def test_mistakes_have_their_place(tmp_path, monkeypatch, entry, message):
    monkeypatch.chdir(tmp_path)
    inputs = "" if "inputs:" in entry else "inputs: [x], "
    (tmp_path / "g.yaml").write_text(
        f"vertices:\n  x: {{op: input, shape: [8]}}\n  p: {{op: projection, units: 6, {inputs}{entry}}}\n"
    )
    with pytest.raises(InputError, match=message) as caught:
        pcsim.load_graph("g.yaml")
    assert all(problem.location.line == 3 for problem in caught.value.problems)
    assert len(caught.value.problems) == 1


def test_absurd_sizes_are_refused_before_memory_is_taken():
    for connect in (
        {"rule": "all_to_all"},
        {"rule": "fixed_in_degree", "degree": 10_000},
        {"rule": "fixed_probability", "probability": 0.5},
        {"rule": "distance_dependent", "scale": 0.1},
    ):
        with pytest.raises(InputError, match=r"connect: makes about .* synapses, expected at most 10\^9"):
            drawn(connect, 10**6, 10**6)
    with pytest.raises(InputError, match="delays: 1001 distinct delays"):
        drawn({"rule": "all_to_all"}, 1001, 1001, delays={"values": list(range(1001))})


def test_populations_have_one_axis_and_one_input():
    bad = document(FEW)
    bad["vertices"]["x"]["shape"] = [4, 2]
    with pytest.raises(InputError, match="a population has one axis of neurons"):
        graph_from(bad)
    bad = document(FEW)
    bad["vertices"]["p"]["inputs"] = ["x", "x"]
    with pytest.raises(InputError, match="got 2 inputs, expected 1, the population before"):
        graph_from(bad)
    bad["vertices"]["p"]["inputs"] = []
    with pytest.raises(InputError, match="got 0 inputs"):
        graph_from(bad)


# -- graphs ------------------------------------------------------------------------------------------------

TWO = {
    "vertices": {
        "x": {"op": "input", "shape": [5]},
        "a": {"op": "projection", "units": 6, "inputs": ["x"], "connect": FEW, "delays": 1, "activation": "tanh"},
        "b": {
            "op": "projection", "units": 5, "inputs": [{"from": "a", "delay": {"value": 1, "error": 2}}],
            "connect": {**FEW, "multiple": True}, "delays": {"uniform": [0, 3]}, "activation": "tanh",
        },
        "y": {"op": "projection", "units": 2, "inputs": ["b"], "connect": {"rule": "all_to_all"}, "delays": 1},
    }
}  # fmt: skip


def test_one_edge_for_each_distinct_delay():
    graph = graph_from(TWO)
    assert graph.vertices["b"].call["synapses"].delays == (0, 1, 2, 3)
    lines = [(edge.name, edge.value_delay, edge.error_delay) for edge in graph.incoming["b"]]
    assert lines == [("a->b", 1, 2), ("a->b#1", 2, 3), ("a->b#2", 3, 4), ("a->b#3", 4, 5)]
    assert graph.parameters["b.weight"].shape == (len(graph.vertices["b"].call["synapses"]),)


@pytest.mark.parametrize("form", ["none", "delay", "identity"])
def test_graphs_come_back_from_networkx(form):
    graph = level(graph_from(TWO), form)
    assert Graph.from_networkx(graph.to_networkx()) == graph


def test_graph_objects_can_be_scenarios():
    graph = level(graph_from(TWO), "delay")
    assert pcsim.load({"graph": graph, "inputs": {"x": 1}, "targets": {"y": 0}, "rule": "il"}).graph == graph


def test_documents_hold_the_rule_and_not_what_it_drew():
    entry = document_from(graph_from(TWO).to_networkx())["vertices"]["b"]
    assert "synapses" not in entry
    assert entry["connect"] == {**FEW, "multiple": True}
    assert entry["delays"] == {"uniform": [0, 3]}


def test_synapses_made_in_python():
    synapses = arranged(PRE, POST, DELAY, fan_out=8, units=6)
    entry = document(None)
    entry["vertices"]["p"]["synapses"] = synapses
    graph = graph_from(entry)
    assert graph.vertices["p"].call["synapses"] is synapses
    assert Graph.from_networkx(graph.to_networkx()) == graph
    entry["vertices"]["p"]["units"] = 7
    with pytest.raises(InputError, match="expected synapses on 7 neurons"):
        graph_from(entry)


def test_initialisers_know_the_degrees():
    graph = graph_from(document({"rule": "fixed_in_degree", "degree": 25}, 100, 400))
    parameter = graph.parameters["p.weight"]
    assert (parameter.fan_in, parameter.fan_out) == (25, 100)
    assert 0.19 < np.abs(initialise(graph, 0)["p.weight"]).max() <= 1 / sqrt(25)
    named = document({"rule": "fixed_in_degree", "degree": 25}, 100, 400, params={"weight": "W"})
    named["parameters"] = {"W": {"shape": [10_000], "init": {"glorot": {}}}}
    assert 0.21 < np.abs(initialise(graph_from(named), 0)["W"]).max() <= sqrt(6 / 125)
    named["parameters"]["W"]["init"] = {"connect": {}}
    with pytest.raises(InputError, match="no file that a projection's 'connect' reads holds weights"):
        initialise(graph_from(named), 0)


# -- what arrives, and when --------------------------------------------------------------------------------


def impulse_response(graph: Graph, synapses: Synapses, weight: np.ndarray, error: np.ndarray, ticks: int) -> np.ndarray:
    """Return what reaches each neuron before at each tick, synapse by synapse: sent at tick 0, in flight its delay."""
    arrived = np.zeros((ticks, synapses.fan_out))
    for n in range(len(synapses)):
        arrived[synapses.delay[n], synapses.pre[n]] += weight[n] * error[synapses.post[n]]
    return arrived


@pytest.mark.parametrize("delays", [{"uniform": [0, 5]}, {"distance": {"speed": 0.2, "least": 1, "periodic": False}}])
def test_each_message_arrives_with_the_delay_of_its_synapse(engine, delays):
    """A constant error of an output is sent at every tick: what is new at tick t came over synapses of delay t."""
    linear = document({"rule": "all_to_all"}, 4, 3, delays=delays, bias=False)
    linear["vertices"]["p"]["inputs"] = ["h"]
    linear["vertices"]["h"] = {"op": "identity", "inputs": ["x"]}
    linear["vertices"]["x"]["shape"] = [4]
    task = make_task(linear, "fpa", ticks=8, batch=1)
    task = replace(task, rule=replace(task.rule, step_size=1.0))
    played = run_task(engine, task)
    synapses = task.graph.vertices["p"].call["synapses"]
    late = [task.graph.edge(f"h->p#{k}").error_delay for k in range(len(synapses.delays))]
    assert tuple(late) == synapses.delays
    expected = impulse_response(task.graph, synapses, task.parameters["p.weight"], played.errors["p"][0, 0], 8)
    error = played.errors["h"][:, 0]
    assert not error[0].any()
    np.testing.assert_allclose(error[1:], np.cumsum(expected, axis=0)[:7], rtol=1e-13, atol=1e-14)


# One neuron as an op of its own: as many scalar inputs as it has synapses, each over an edge of its own.


def neuron_forward(xp, call, params, inputs):
    z = params["bias"][:, None] + sum(params["weight"][:, None, n] * x for n, x in enumerate(inputs))
    return (np.tanh(z), ()) if call["bent"] else (z, ())


def neuron_slope(call, mu, g):
    return g * (1 - mu * mu) if call["bent"] else g


def neuron_back(xp, call, params, inputs, mu, saved, g):
    return tuple(params["weight"][:, None, n] * neuron_slope(call, mu, g) for n in range(len(inputs)))


def neuron_learn(xp, call, params, inputs, mu, saved, g):
    d = neuron_slope(call, mu, g)
    return {"weight": np.stack([np.sum(d * x, axis=1) for x in inputs], axis=-1), "bias": np.sum(d, axis=1)}


NEURON = Op(
    "neuron", "for the test", (1, None), lambda call: (), neuron_forward, neuron_back, neuron_learn,
    lambda call: {"weight": ParameterSpec((len(call.shapes),)), "bias": ParameterSpec(())},
    {"bent": Attribute(bool, True)},
)  # fmt: skip


def neuron_by_neuron(graph: Graph) -> dict[str, Any]:
    """Return populations as a document of single neurons, each synapse an edge with its own delays."""
    vertices: dict[str, Any] = {f"x.{i}": {"op": "input", "shape": []} for i in range(graph.vertices["x"].shape[0])}
    for name in ("a", "b", "y"):
        vertex, lines = graph.vertices[name], graph.incoming[name]
        synapses = vertex.call["synapses"]
        line = dict(zip(synapses.delays, lines, strict=True))
        for post in range(synapses.units):
            here = np.flatnonzero(synapses.post == post)
            inputs = [_line(line[synapses.delay[n]], synapses.pre[n]) for n in here]
            vertices[f"{name}.{post}"] = {"op": "neuron", "inputs": inputs, "bent": vertex.call["activation"] == "tanh"}
    return {"vertices": vertices, "outputs": [f"y.{i}" for i in range(2)]}


def _line(edge, pre):
    return {"from": f"{edge.pre}.{pre}", "delay": {"value": edge.value_delay, "error": edge.error_delay}}


def split(task, arrays):
    """Return {population: (batch, neurons)} by neuron."""
    return {f"{name}.{i}": array[:, i] for name, array in arrays.items() for i in range(array.shape[1])}


def split_parameters(task):
    found = {}
    for name in ("a", "b", "y"):
        synapses = task.graph.vertices[name].call["synapses"]
        for post in range(synapses.units):
            found[f"{name}.{post}.weight"] = task.parameters[f"{name}.weight"][synapses.post == post]
            found[f"{name}.{post}.bias"] = task.parameters[f"{name}.bias"][post]
    return found


@pytest.mark.parametrize(("rule", "form"), [("fpa", "none"), ("il", "none"), ("zil", "delay")])
def test_a_population_is_its_neurons(engine, rule, form, monkeypatch):
    """Errors, values and updates are, at each tick, those of single neurons with a delay on each edge."""
    monkeypatch.setitem(OPS, "neuron", NEURON)
    task = make_task(graph_from(TWO), rule, form, ticks=None if rule == "zil" else 20, batch=2)
    assert len({edge.error_delay for edge in task.graph.incoming["b"]}) == (1 if form == "delay" else 4)
    alone = graph_from(neuron_by_neuron(task.graph))
    twin = replace(
        task, graph=alone, parameters=split_parameters(task), inputs=split(task, task.inputs),
        targets=split(task, task.targets), losses=dict.fromkeys(alone.outputs, "squared_error"),
    )  # fmt: skip
    played, single = run_task(engine, task), run_task(engine, twin)
    for quantity in ("error", "value"):
        for name in ("a", "b", "y"):
            count = task.graph.vertices[name].shape[0]
            found = np.stack([single.seen[quantity][f"{name}.{i}"] for i in range(count)], axis=-1)
            np.testing.assert_allclose(found, played.seen[quantity][name], rtol=1e-11, atol=1e-13)
    for name in ("a", "b", "y"):
        count = task.graph.vertices[name].shape[0]
        weight = np.concatenate([single.learnt[f"{name}.{i}.weight"] for i in range(count)])
        np.testing.assert_allclose(weight, played.learnt[f"{name}.weight"], rtol=1e-11, atol=1e-13)
        bias = np.stack([single.learnt[f"{name}.{i}.bias"] for i in range(count)])
        np.testing.assert_allclose(bias, played.learnt[f"{name}.bias"], rtol=1e-11, atol=1e-13)
    assert np.abs(played.errors["a"][-1]).min() > 0


@pytest.mark.parametrize("form", ["delay", "identity"])
def test_zil_learns_backprop_on_levelled_populations(engine, form):
    task = make_task(graph_from(TWO), "zil", form)
    played, reference = run_task(engine, task), backprop(task)
    for name, update in reference.gradients.items():
        np.testing.assert_allclose(played.learnt[name], update, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rule", ["fpa", "il", "zil", "bp"])
def test_engines_agree(rule):
    check_engines_agree(make_task(graph_from(TWO), rule, "delay"))


def check_engines_agree(task):
    slow, fast = (run_task(open_engine(name), task) for name in ("actors", "numpy"))
    for name, learnt in slow.learnt.items():
        np.testing.assert_allclose(fast.learnt[name], learnt, rtol=1e-12, atol=1e-13)
    for quantity, by_name in slow.seen.items():
        for name, series in by_name.items():
            np.testing.assert_allclose(fast.seen[quantity][name], series, rtol=1e-12, atol=1e-13)


def test_synapses_find_their_columns():
    """Both orders of the index arrays say the same matrix, and repr says what it is."""
    found = graph_from(TWO).vertices["b"].call["synapses"]
    assert repr(found) == "Synapses(15 from 6 to 5 neurons, delays 0, 1, 2, 3)"
    columns = np.searchsorted(found.delays, found.delay) * found.fan_out + found.pre
    np.testing.assert_array_equal(found.columns, columns)
    np.testing.assert_array_equal(found.order, np.argsort(columns, kind="stable"))
    np.testing.assert_array_equal(np.diff(found.column_starts), np.bincount(columns, minlength=found.width))
    np.testing.assert_array_equal(np.diff(found.starts), in_degrees(found))


def test_ten_million_synapses_are_built_in_seconds():
    """A tenth of it here: a loop over neurons in Python, or memory by pairs, would take far longer than this bound."""
    start = perf_counter()
    found = drawn({"rule": "fixed_in_degree", "degree": 10}, 100_000, 100_000, delays={"uniform": [0, 7]})
    assert len(found) == len(found.columns) == 10**6
    assert perf_counter() - start < 5

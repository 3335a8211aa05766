"""What an update costs: counts, times with many processors, placements on a mesh, and models of hardware."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import pcsim
from pcsim.analysis.cost import actor_costs
from pcsim.analysis.hardware import HARDWARE, LOIHI
from pcsim.analysis.parallel_time import Jobs, backprop_phases, rule_phases, times_of
from pcsim.analysis.placement import PLACEMENTS, Chip, put_on_chip
from pcsim.cli import app
from pcsim.errors import InputError
from pcsim.graph import levels
from pcsim.ops import OPS
from pcsim.ops.op import undeclared
from pcsim.rules import RULES

BATCH, WIDTH = 4, 6


def net(depth=3, rule="zil", **more):
    vertices = {
        "x": {"op": "input", "shape": [5]},
        "h1": {"op": "affine", "units": WIDTH, "activation": "tanh", "inputs": ["x"]},
        **{f"h{k}": {"op": "affine", "units": WIDTH, "activation": "tanh", "inputs": [f"h{k - 1}"]}
           for k in range(2, depth + 1)},
        "y": {"op": "affine", "units": 2, "inputs": [f"h{depth}"]},
    }  # fmt: skip
    return {"graph": {"vertices": vertices, "outputs": ["y"]}, "inputs": {"x": {"normal": [0, 1]}},
            "targets": {"y": {"normal": [0, 1]}}, "batch": BATCH, "rule": rule, **more}  # fmt: skip


def branches(count=12):
    """Return a source, as many branches side by side, and their sum."""
    vertices = {"x": {"op": "input", "shape": [8]}, "y": {"op": "add", "inputs": [f"b{k}" for k in range(count)]}}
    for k in range(count):
        vertices[f"a{k}"] = {"op": "affine", "units": 8, "activation": "tanh", "inputs": ["x"]}
        vertices[f"b{k}"] = {"op": "affine", "units": 3, "inputs": [f"a{k}"]}
    return {"graph": {"vertices": vertices, "outputs": ["y"]}, "inputs": {"x": {"normal": [0, 1]}},
            "targets": {"y": 0}, "batch": 2, "rule": "zil"}  # fmt: skip


def random_jobs(rng, count):
    names = [f"j{k}" for k in range(count)]
    waits = {name: tuple(other for other in names[:k] if rng.random() < 0.3) for k, name in enumerate(names)}
    return Jobs(dict(zip(names, map(float, rng.integers(1, 9, count)), strict=True)), waits)


# -- counts ------------------------------------------------------------------------------------------------


def test_actors_and_edges_are_counted():
    found = pcsim.cost(net(), ticks=5)
    rows = {row["actor"]: row for row in found.actors}
    assert rows["h1"]["forward_multiply_adds"] == 5 * WIDTH * BATCH
    assert rows["h1"]["back_multiply_adds"] == 0, "nothing returns to a clamped source"
    assert rows["h2"]["back_multiply_adds"] == rows["h2"]["forward_multiply_adds"] == WIDTH * WIDTH * BATCH
    edges = {row["edge"]: row for row in found.edges}
    assert edges["x->h1"]["value_bytes"] == edges["x->h1"]["error_bytes"] == 0
    assert edges["h1->h2"]["value_bytes"] == edges["h1->h2"]["error_bytes"] == WIDTH * BATCH * 8
    fixed = pcsim.cost(net(rule="fpa"), ticks=5, rules=["fpa"])
    assert {row["value_bytes"] for row in fixed.edges} == {0}, "where predictions are fixed no value moves"
    assert fixed.actors[1]["tick_multiply_adds"] == WIDTH * WIDTH * BATCH


def test_an_op_that_declares_no_cost_is_refused_by_name(monkeypatch):
    monkeypatch.setitem(OPS, "stranger", replace(OPS["softmax"], name="stranger", cost=undeclared))
    document = net()
    document["graph"]["vertices"]["s"] = {"op": "stranger", "inputs": ["h3"]}
    document["graph"]["vertices"]["y"]["inputs"] = ["s"]
    with pytest.raises(InputError, match=r"vertices\.s\.op: op 'stranger' does not declare what it costs"):
        pcsim.cost(document, ticks=3)


def test_every_op_that_ships_declares_its_cost():
    assert [op.name for op in OPS.values() if op.role == "function" and op.cost is undeclared] == []


# -- times -------------------------------------------------------------------------------------------------


def shortest(jobs, processors):
    """Return the shortest list schedule over all orders of the jobs: of jobs that need not wait, the shortest."""
    names = list(jobs.lengths)
    best = np.inf
    for order in itertools.product(range(processors), repeat=len(names)):
        free, done = [0.0] * processors, {}
        for name, machine in zip(names, order, strict=True):
            start = max([free[machine], *(done[other] for other in jobs.waits[name])])
            done[name] = free[machine] = start + jobs.lengths[name]
        best = min(best, max(done.values()))
    return best


def test_a_list_schedule_keeps_its_bounds():
    rng = np.random.default_rng(0)
    for _ in range(40):
        jobs = random_jobs(rng, int(rng.integers(1, 30)))
        assert jobs.scheduled(1) == pytest.approx(jobs.work)
        assert jobs.scheduled(len(jobs.lengths)) == pytest.approx(jobs.span)
        for p in (2, 3, 7):
            least, most = max(jobs.work / p, jobs.span), jobs.span + (jobs.work - jobs.span) / p
            assert least - 1e-9 <= jobs.scheduled(p) <= most + 1e-9
    for _ in range(5):
        jobs = random_jobs(rng, 7)
        assert jobs.scheduled(2) <= (2 - 1 / 2) * shortest(jobs, 2)


def test_actors_that_wait_for_each_other_have_no_time():
    jobs = Jobs({"a": 1.0, "b": 1.0, "c": 1.0}, {"a": ("c",), "b": ("a",), "c": ("b",)})
    with pytest.raises(InputError, match="a sweep needs an order, and a, b, c lie on a cycle"):
        _ = jobs.span


def test_times_of_a_chain_are_sums_and_maxima():
    task = pcsim.load(net()).task()
    actors = actor_costs(task)
    ahead = [actor.forward.operations for actor in actors.values()]
    back = [actor.back.operations for actor in actors.values()]
    reference = times_of(backprop_phases(), task.graph, actors, BATCH)
    assert reference.work == reference.span == sum(ahead) + sum(back)
    times = times_of(rule_phases(RULES["zil"], 4), task.graph, actors, BATCH)
    assert times.work == sum(ahead) + 4 * (sum(ahead) + sum(back))
    assert times.span == sum(ahead) + 4 * max(map(sum, zip(ahead, back, strict=True)))
    fixed = times_of(rule_phases(RULES["fpa"], 4), task.graph, actors, BATCH)
    assert fixed.span == sum(ahead) + 4 * max(back)
    sweeps = times_of(rule_phases(RULES["epc"], 4), task.graph, actors, BATCH)
    assert sweeps.span == sum(ahead) + 4 * (sum(ahead) + sum(back))


def test_branches_are_worked_out_side_by_side_and_backprop_too():
    found = pcsim.cost(branches(), rules=["zil"], processors=[1, 3, 25])
    reference, zil = found.times
    assert zil["ticks"] == 3
    assert zil["span"] > reference["span"]
    assert zil["span_over_backprop_work"] < 1, "one processor for each actor beats backprop on one"
    for row in found.processors:
        assert row["least"] <= row["scheduled"] * (1 + 1e-12)
        assert row["scheduled"] <= row["most"] * (1 + 1e-12)


@pytest.mark.parametrize("depth", [2, 6])
def test_bounds_of_zahid_hold_on_a_chain(depth):
    rules = ["zil", {"name": "fpa", "step_size": 1}, {"name": "fpa", "step_size": 0.5}]
    found = pcsim.cost(net(depth), rules=rules, processors=[1])
    assert [row["ticks"] for row in found.bounds][:2] == [depth + 1] * 2
    for row in found.bounds:
        assert row["chain"]
        assert row["converged"] >= row["shortest"] >= row["backprop"]
    assert found.bounds[2]["converged"] > found.bounds[1]["converged"] == found.bounds[1]["shortest"]


def test_a_rule_that_does_not_converge_has_no_time_and_says_why():
    found = pcsim.cost(net(6), rules=[{"name": "il", "step_size": 0.01, "ticks": 20}], processors=[1])
    row = found.times[1]
    assert (row["ticks"], row["span"]) == (None, None)
    assert row["why"] == "not converged in 20 ticks"
    assert {one["method"] for one in found.ranking} == {"backprop"}


def test_default_rules_are_those_that_learn_once():
    found = pcsim.cost(net(rule={"name": "fpa", "step_size": 1}), ticks=4)
    names = [row["method"].partition(",")[0] for row in found.times]
    assert names == ["backprop", "fpa", "il", "zil", "fa-zil", "epc", "alm"]
    assert not {row["method"] for row in found.bounds} & {"epc, step 0.5"}, "of sweeps there is no such bound"


# -- placements --------------------------------------------------------------------------------------------


def ladder(count=24):
    """Return a chain in which each vertex also feeds the one after the next."""
    vertices = {"x": {"op": "input", "shape": [4]}}
    for k in range(count):
        inputs = [f"h{j}" for j in (k - 1, k - 2) if j >= 0] or ["x"]
        vertices[f"h{k}"] = {"op": "add" if len(inputs) > 1 else "tanh", "inputs": inputs}
    return pcsim.load({"graph": {"vertices": vertices, "outputs": [f"h{count - 1}"]}, "inputs": {"x": 1},
                       "targets": {f"h{count - 1}": 0}, "rule": "fpa"}).graph  # fmt: skip


CHIP = Chip(rows=3, columns=3, cores=2, units=16, weights=10)


@pytest.mark.parametrize("name", [name for name in PLACEMENTS if name != "metis"])
@pytest.mark.parametrize("weights", [{}, {"h3": 25.0, "h9": 7.0}])
def test_no_core_holds_more_than_it_can(name, weights):
    placed = put_on_chip(ladder(), weights, CHIP, name)
    loads = np.zeros((len(placed.chip.positions), 2))
    for piece, core in zip(placed.pieces.pieces, placed.cores, strict=True):
        loads[core] += piece.units, piece.weights
    assert (loads <= [CHIP.units, CHIP.weights]).all()
    assert loads[:, 0].sum() == pytest.approx(2 * 4 * 25)
    assert all(sum(share for _, share in found) == pytest.approx(1) for found in placed.where.values())
    assert len(placed.where["h3"]) >= (1 if not weights else 2), "what is too large is cut"


def test_a_placement_by_traffic_makes_messages_travel_less():
    hops = {name: put_on_chip(ladder(), {}, CHIP, name).mean_hops for name in ("random", "greedy", "spectral")}
    assert max(hops["greedy"], hops["spectral"]) < hops["random"] / 2


def test_cores_of_a_tile_are_no_hop_apart_and_chips_are_joined():
    chip = Chip(2, 3, 2, 1, 1).holding(13)
    assert (chip.rows, len(chip.positions)) == (4, 24)
    assert chip.distances(np.array([0]), np.array([1, 2, 5, 6, 11])).tolist() == [0, 1, 2, 3, 1]


def test_metis_is_taken_where_it_is_and_refused_by_name_where_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymetis", None)
    with pytest.raises(InputError, match="placement 'metis' needs pymetis"):
        pcsim.cost(net(), ticks=3, placement="metis")
    found = pcsim.cost(net(), ticks=3)
    assert next(row["why"] for row in found.placements if row["placement"] == "metis")


def test_metis_keeps_what_talks_together():
    pytest.importorskip("pymetis")
    placed = put_on_chip(ladder(), {}, CHIP, "metis")
    assert placed.mean_hops < put_on_chip(ladder(), {}, CHIP, "random").mean_hops


def test_delays_of_a_placement_are_run():
    document = net(4, {"name": "fpa", "step_size": 1, "ticks": 60}, stop="converged")
    found = pcsim.cost(document, ticks=4, placement="random", constants={"loihi.units_per_core": 12})
    placed, graph = found.placed(), found.graph()
    added = [edge.error_delay for edge in graph.edges]
    assert added == [placed.hops(edge) for edge in placed.graph.edges]
    assert sum(added[1:]) > 0
    run = pcsim.simulate({**document, "graph": graph})
    assert run.summary["ticks_to_convergence"]["ticks"] == levels(graph) - 1 == 4 + sum(added[1:])
    assert found.graph(hops_per_tick=100).edges == placed.graph.edges
    with pytest.raises(InputError, match="hops_per_tick"):
        found.graph(0)
    with pytest.raises(InputError, match="no mesh is named 'lohi'; did you mean 'loihi'"):
        found.graph(hardware="lohi")


# -- hardware ----------------------------------------------------------------------------------------------


def test_energy_and_latency_of_a_mesh_are_what_one_counts_by_hand():
    """Two actors of one weight on neighbouring tiles: one message each way, a hop along the row."""
    vertices = {"x": {"op": "input", "shape": [1]}, "a": {"op": "affine", "units": 1, "inputs": ["x"]},
                "b": {"op": "affine", "units": 1, "inputs": ["a"]}}  # fmt: skip
    document = {"graph": {"vertices": vertices, "outputs": ["b"]}, "inputs": {"x": 1}, "targets": {"b": 0},
                "rule": {"name": "il", "ticks": 1}, "batch": 3}  # fmt: skip
    small = {"loihi.units_per_core": 2, "loihi.cores_per_tile": 1}
    found = pcsim.cost(document, rules=["il"], ticks=1, placement="in-order", constants=small)
    value = LOIHI.values
    row = next(one for one in found.placements if one["placement"] == "in-order")
    assert (row["cores"], row["most_hops"], row["mean_hops"]) == (3, 1, 1)
    neurons = 4 * (value["neuron_access"] + value["neuron_update"])  # two units, there and back
    messages = 2 * (value["spike_out"] + value["axon_out"] + value["hop_row"])
    assert row["tick_joules"] == pytest.approx(1e-12 * (3 * value["synapse_dense"] + neurons + messages))
    unit = 2 * (value["neuron_access_time"] + value["neuron_update_time"])
    core = unit + 2 * value["synapse_dense_time"] + value["spike_time"] + value["axon_out_time"] + value["axon_in_time"]
    network = 2 * value["hop_row_time"]  # the route, and the message on its link
    barrier = value["barrier"] + 2 * value["barrier_tile"]
    assert row["tick_seconds"] == pytest.approx(1e-9 * (core + network + barrier))


def test_messages_that_a_channel_spares_cost_nothing_on_a_mesh():
    """Of values it spares the synapses behind them too; the products of errors are made before they are sent."""
    il = {"name": "il", "step_size": 0.3, "ticks": 500}
    dense, sparse, mute = (
        pcsim.cost(net(rule=il, tolerance=1e-2, **more), rules=["il"], placement="random")
        for more in ({}, {"channels": {"*": {"threshold": 0.02}}}, {"channels": {"*": {"threshold": 1e3}}})
    )

    def row(found):
        return next(one for one in found.placements if one["placement"] == "random")

    sent = sparse.times[1]["sent"]
    assert 0 < sent["forward"] < 1
    assert 0 < sent["back"] < 1
    assert mute.times[1]["sent"] == {"forward": 0, "back": 0}
    assert row(mute)["tick_joules"] < row(sparse)["tick_joules"] < row(dense)["tick_joules"]
    assert row(mute)["tick_seconds"] < row(sparse)["tick_seconds"] < row(dense)["tick_seconds"]
    back = sum(one["back_multiply_adds"] for one in dense.actors) / BATCH * LOIHI.values["synapse_dense"]
    neurons = 2 * (3 * WIDTH + 2) * (LOIHI.values["neuron_access"] + LOIHI.values["neuron_update"])
    assert row(mute)["tick_joules"] == pytest.approx(1e-12 * (back + neurons))


def test_a_graphics_processor_takes_the_longer_of_arithmetic_and_memory():
    found = pcsim.cost(net(), rules=["zil"], ticks=4)
    row = next(one for one in found.ranking if (one["method"], one["hardware"]) == ("backprop", "a100"))
    actors = actor_costs(replace(pcsim.load(net()).task(), dtype=np.dtype(np.float32)))
    work = [getattr(actor, part) for actor in actors.values() for part in ("forward", "back", "learn")]
    value = HARDWARE["a100"].values
    picojoules = sum(one.operations * value["operation"] + one.bytes * value["dram"] for one in work) / BATCH
    assert row["joules"] == pytest.approx(1e-12 * picojoules)
    kernels = [max(one.operations / 19.5e12, one.bytes / 1555e9) + 5e-6 for one in work if one.operations]
    assert row["seconds"] == pytest.approx(sum(kernels) / BATCH)


def test_a_ranking_says_where_it_turns():
    rules = ["zil", "fpa", "epc"]
    base = pcsim.cost(net(), rules=rules, ticks=4)
    assert [row["joules"] for row in base.ranking] == sorted(row["joules"] for row in base.ranking)
    single = [row for row in base.turns if row["constant"] != "all together"]
    assert single, "some order turns"
    for row in single[:4]:
        assert 0.75 <= row["factor"] <= 1.25
        name = f"{row['device']}.{row['constant']}"
        before = HARDWARE[next(key for key, one in HARDWARE.items() if one.device == row["device"]
                               and row["constant"] in one.constants)].values[row["constant"]]  # fmt: skip
        unit = {"energy": "joules", "latency": "seconds"}[row["order"]]
        after = pcsim.cost(net(), rules=rules, ticks=4, constants={name: before * row["factor"]})
        sizes = {f"{one['method']} on {one['hardware']}": one[unit] for one in after.ranking}
        assert sizes[row["passes"]] == pytest.approx(sizes[row["passed"]], rel=1e-6)


def test_what_is_wrong_is_told_at_once():
    with pytest.raises(InputError) as caught:
        pcsim.cost(net(), rules=["zill"], ticks=0, placement="gredy", processors=[2.5],
                   constants={"loihi.hop": 1, "loihi.barrier": -1})  # fmt: skip
    text = str(caught.value)
    for part in ("rules[0].name: unknown rule 'zill'", "ticks: must be a whole number", "'greedy'", "processors",
                 "unknown constant 'loihi.hop'", "constants.loihi.barrier"):  # fmt: skip
        assert part in text


def test_the_command_prints_writes_and_draws(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.json").write_text(json.dumps(net()))
    arguments = ["cost", "net.json", "--rule", "{name: fpa, step_size: 1}", "--rule", "zil", "--out", "out"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    for part in ("fpa, step 1", "greedy", "this is a model; it assumes:", "hardware.png"):
        assert part in result.stdout
    plain = json.loads((tmp_path / "out" / "cost.json").read_text())
    assert set(plain) == {"facts", "actors", "edges", "times", "processors", "bounds", "placements", "ranking", "turns",
                          "constants", "assumptions"}  # fmt: skip
    assert all(row["source"] for row in plain["constants"])
    assert {path.name for path in (tmp_path / "out").glob("*.svg")} == {"processors.svg", "bounds.svg", "hardware.svg"}
    again = CliRunner().invoke(app, ["cost", "net.json", "--ticks", "4", "--json"])
    assert json.loads(again.stdout)["facts"]["measured"] is False
    wrong = CliRunner().invoke(app, ["cost", "net.json", "--constant", "loihi.hop=3"])
    assert wrong.exit_code == 2

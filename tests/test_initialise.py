"""How parameters start."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from pcsim.errors import InputError
from pcsim.graph import graph_from
from pcsim.graph.array_files import read_array
from pcsim.graph.initialise import initialise, stream

N = 400


def layer(init=None, units=N, fan_in=100, **more):
    vertex = {"op": "affine", "units": units, "inputs": ["x"], **({"init": init} if init else {}), **more}
    return graph_from({"vertices": {"x": {"op": "input", "shape": [fan_in]}, "y": vertex}})


def weight(init, **sizes):
    return initialise(layer({"weight": init}, **sizes), 0)["y.weight"]


@pytest.mark.parametrize(("init", "mean", "deviation", "bound"), [
    ({"uniform_fan_in": {}}, 0, 0.1 / sqrt(3), 0.1),
    ({"glorot": {}}, 0, sqrt(2 / 500), sqrt(6 / 500)),
    ({"he": {}}, 0, sqrt(2 / 100), None),
    ({"normal": [1, 0.25]}, 1, 0.25, None),
    ({"uniform": [1, 3]}, 2, 1 / sqrt(3), None),
    ({"constant": 3}, 3, 0, None),
    ({"values": 2}, 2, 0, None),
])  # fmt: skip
def test_statistics(init, mean, deviation, bound):
    values = weight(init)
    assert values.shape == (N, 100)
    assert abs(values.mean() - mean) < 6 * deviation / sqrt(values.size) + 1e-12
    assert values.std() == pytest.approx(deviation, rel=0.02, abs=1e-12)
    if bound:
        assert abs(values).max() <= bound
        assert abs(values).max() > 0.99 * bound


def test_the_default_is_that_of_torch():
    values = initialise(layer(), 0)
    assert np.array_equal(values["y.weight"], weight({"uniform_fan_in": {}}))
    assert 0.09 < abs(values["y.bias"]).max() <= 0.1


@pytest.mark.parametrize(("units", "fan_in"), [(5, 3), (3, 5), (4, 4)])
def test_orthogonal(units, fan_in):
    values = weight({"orthogonal": {}}, units=units, fan_in=fan_in)
    small = values.T @ values if units > fan_in else values @ values.T
    assert np.allclose(small, np.eye(min(units, fan_in)))


def test_values():
    assert weight({"values": [[1, 2], [3, 4]]}, units=2, fan_in=2).tolist() == [[1, 2], [3, 4]]


def factors(turned):
    return graph_from({"vertices": {
        "W": {"op": "parameter", "shape": [100, 400] if turned else [400, 100]},
        "V": {"op": "parameter", "shape": [400, 100], "init": {"glorot": {}}},
        "x": {"op": "input", "shape": [100]},
        "h": {"op": "matmul", "inputs": ["x", "W"] if turned else ["W", "x"]},
        "y": {"op": "matmul", "inputs": ["h", "V"]},
    }})  # fmt: skip


@pytest.mark.parametrize("turned", [False, True])
def test_fan_in_of_a_factor_is_what_the_product_sums_over(turned):
    graph = factors(turned)
    assert graph.parameters["W"].fan_in == 100
    assert graph.parameters["V"].fan_in == 400
    values = initialise(graph, 0)
    assert 0.099 < abs(values["W"]).max() <= 0.1
    assert 0.99 * sqrt(6 / 500) < abs(values["V"]).max() <= sqrt(6 / 500)


def test_fan_in_of_a_shared_parameter_does_not_depend_on_the_order():
    vertices = {
        "x": {"op": "input", "shape": [3]},
        "z": {"op": "input", "shape": [5]},
        "b": {"op": "affine", "units": 2, "params": {"bias": "B"}, "inputs": ["z"]},
        "a": {"op": "affine", "units": 2, "params": {"bias": "B"}, "inputs": ["x"]},
    }
    document = {"parameters": {"B": {"shape": [2]}}, "vertices": vertices}
    turned = {**document, "vertices": dict(reversed(vertices.items()))}
    assert graph_from(document) == graph_from(turned)
    assert graph_from(document).parameters["B"].fan_in == 3


def test_a_draw_depends_on_seed_and_name_alone():
    alone = layer({"weight": {"he": {}}}, units=3, fan_in=4)
    vertices = {
        "other": {"op": "affine", "units": 9, "inputs": ["y"]},
        "y": {"op": "affine", "units": 3, "init": {"weight": {"he": {}}}, "inputs": ["x"]},
        "x": {"op": "input", "shape": [4]},
    }
    among = graph_from({"vertices": vertices})
    first = initialise(alone, 7)
    assert np.array_equal(first["y.weight"], initialise(among, 7)["y.weight"])
    assert np.array_equal(first["y.bias"], initialise(among, 7)["y.bias"])
    assert not np.array_equal(first["y.weight"], initialise(alone, 8)["y.weight"])
    assert not np.array_equal(stream(0, "ab", "c").random(3), stream(0, "a", "bc").random(3))


def test_single_precision_is_the_rounded_draw():
    graph = layer(units=7, fan_in=5)
    double, single = initialise(graph, 3), initialise(graph, 3, np.float32)
    for name, value in double.items():
        assert single[name].dtype == np.float32
        assert np.array_equal(single[name], value.astype(np.float32))


def test_files(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.ones((2, 3)), b=np.zeros(4))
    np.save(tmp_path / "w.npy", np.full((2, 3), 5))
    graph = layer({"weight": {"file": "w.npz", "key": "a"}}, units=2, fan_in=3)
    assert initialise(graph, 0, folder=tmp_path)["y.weight"].tolist() == [[1, 1, 1]] * 2
    graph = layer({"weight": {"file": "w.npy"}}, units=2, fan_in=3)
    assert initialise(graph, 0, folder=tmp_path)["y.weight"].tolist() == [[5, 5, 5]] * 2
    for init, fragment in [
        ({"file": "w.npz", "key": "b"}, "vertices.y.init.weight: has shape [4], expected [2, 3]"),
        ({"file": "w.npz", "key": "c"}, "vertices.y.init.weight.key: "),
        ({"file": "w.npz"}, "holds a, b: say which with 'key'"),
        ({"file": "v.npz"}, "vertices.y.init.weight.file: cannot read"),
    ]:
        with pytest.raises(InputError, match=r"vertices\.y\.init\.weight") as caught:
            initialise(layer({"weight": init}, units=2, fan_in=3), 0, folder=tmp_path)
        assert fragment in str(caught.value)


def test_pickles_are_never_opened(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="it holds Python objects"):
        read_array(tmp_path / "o.npy", None)


@pytest.mark.parametrize(("init", "fragment"), [
    ({"values": [[1, 2]]}, "vertices.y.init.weight.values: has shape [1, 2], expected one number or shape [2, 3]"),
    ({"values": "x"}, "vertices.y.init.weight.values: expected finite numbers"),
    ({"values": [[1], [2, 3]]}, "vertices.y.init.weight.values: expected finite numbers, lists of equal lengths"),
    ({"values": None}, "vertices.y.init.weight: 'values' has no value"),
    ({"normal": [0, -1]}, "vertices.y.init.weight.normal: expected [mean, standard deviation]"),
    ({"uniform": [1, 0]}, "vertices.y.init.weight.uniform: expected [low, high]"),
    ({"constant": True}, "vertices.y.init.weight.constant: expected a number, got True"),
    ({"constant": "1"}, "vertices.y.init.weight.constant: expected a number, got '1'"),
    ({"glorto": {}}, "vertices.y.init.weight.glorto: unknown key 'glorto'; did you mean 'glorot'?"),
    ({}, "vertices.y.init.weight: an init has exactly one of"),
    ({"he": {}, "glorot": {}}, "vertices.y.init.weight: an init has exactly one of"),
    ({"he": {"gain": 2}}, "vertices.y.init.weight.he: expected at most 0 entries"),
])  # fmt: skip
def test_refusals(init, fragment):
    with pytest.raises(InputError) as caught:
        layer({"weight": init}, units=2, fan_in=3)
    assert fragment in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**32, 2**63 - 1])
@pytest.mark.parametrize("name", ["W", "h12.weight", "\u00fc", "v" * 200])
def test_stream_is_seeded_by_seed_and_bytes_of_the_name(seed, name):
    sequence = np.random.SeedSequence([seed, *f"parameter/{name}".encode()])
    wanted = np.random.Generator(np.random.Philox(sequence)).random(5)
    assert np.array_equal(stream(seed, "parameter", name).random(5), wanted)

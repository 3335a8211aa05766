"""The study of how far credit reaches in a deep residual net."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pcsim
from pcsim.credit import METHODS, REACHED, residual_net, study

GRAPHS = Path(__file__).parents[1] / "graphs"


@pytest.fixture(scope="module")
def found():
    return study(depth=24, width=24, ticks=24, batch=8, seeds=(0, 1))


def test_nets_of_the_study_are_those_that_ship():
    for mu, name in ((True, "mu-residual"), (False, "standard-residual")):
        ours = pcsim.load_graph(residual_net(9, 12, mu=mu))
        shipped = pcsim.load_graph(GRAPHS / f"{name}.yaml", {"depth": 9, "width": 12})
        assert dict(ours.vertices) == dict(shipped.vertices)
        assert {key: row.init for key, row in ours.parameters.items()} == {
            key: row.init for key, row in shipped.parameters.items()
        }


def test_shares_are_projections_on_backprops_gradient(found):
    """What is not inference is backprop; layers that errors have just reached have next to nothing."""
    for name in ("zil", "backprop"):
        np.testing.assert_allclose(found.shares[name], 1, rtol=1e-9)
        np.testing.assert_allclose(found.cosines[name], 1, rtol=1e-9)
    assert found.shares["sPC"].shape == (2, 24)
    assert found.shares["mu-PC"][:, 0].max() < 1e-6 < REACHED < found.shares["mu-PC at equilibrium"].min()
    assert (found.shares["sPC"][:, 0] < found.shares["mu-PC"][:, 0]).all()
    for name in ("sPC", "mu-PC"):  # the front of the first errors
        np.testing.assert_allclose(found.shares[name][:, 0], found.steps[name] ** 23, rtol=1e-6)
    np.testing.assert_allclose(found.shares["ePC"], found.shares["mu-PC at equilibrium"], atol=0.1)


def test_the_verdict_follows_from_the_numbers(found):
    reached = found.reached("mu-PC")
    assert 1 <= reached < 24 == found.reached("ePC") == found.reached("zil")
    assert f"the last {reached} of 24 layers only" in found.verdict
    assert "Credit is late, not lost." in found.verdict
    assert "384 ticks of messages" in found.verdict
    assert [row["layer"] for row in found.rows if row["method"] == "zil"] == [1, 10, 20, 24]
    assert str(found).count("\n") == 7
    assert found.steps["mu-PC"] in METHODS["mu-PC"].steps


def test_the_mu_parametrisation_keeps_its_size_and_the_standard_one_does_not():
    """Values behind 64 layers beside those behind 8, and of width 96 beside width 24."""

    def size(mu, depth, width):
        document = {
            "graph": residual_net(depth, width, mu=mu, activation="relu"),
            "inputs": {"x": {"dataset": "digits", "field": "images", "scale": 4.0}},
            "targets": {"y": 0.0},
            "batch": 4,
            "rule": {"name": "fpa", "ticks": 1},
            "record": [{"what": "prediction", "vertices": f"h{depth - 1}"}],
            "measure": [],
        }
        return float(np.sqrt((pcsim.simulate(document).series("prediction", f"h{depth - 1}").values ** 2).mean()))

    sizes = [size(True, depth, width) for depth in (8, 64) for width in (24, 96)]
    assert max(sizes) < 2 * min(sizes)
    assert size(False, 64, 24) > 50 * size(False, 8, 24)

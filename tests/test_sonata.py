"""Edges of SONATA files: types, groups, multiplicity and index mean what the documents of the format say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pcsim
from pcsim.errors import InputError
from pcsim.graph import graph_from
from pcsim.graph.initialise import initialise

h5py = pytest.importorskip("h5py")

SOURCE, TARGET = np.array([0, 1, 2, 3]), np.array([0, 0, 1, 1])
IDS = {
    "source_node_id": SOURCE.astype(np.uint64),
    "target_node_id": TARGET.astype(np.uint64),
    "edge_type_id": np.array([100, 101, 100, 101]),
    "edge_group_id": np.array([0, 0, 1, 1], np.uint32),
    "edge_group_index": np.array([0, 1, 0, 1], np.uint64),
}
TYPES = "edge_type_id delay syn_weight\n100 2.0 0.25\n101 3.0 -0.5\n"


def write(folder, datasets: dict[str, Any], types: str | None = None, population: str = "a_to_b") -> None:
    with h5py.File(folder / "edges.h5", "a") as file:
        for name, array in datasets.items():
            if array is not None:
                file[f"edges/{population}/{name}"] = array
    if types is not None:
        (folder / "types.csv").write_text(types)


def read(folder, **more: Any) -> tuple[list[int], list[float], tuple[str, ...]]:
    """Return delays and weights, in the order of the file, and the notes."""
    connect = {"rule": "from_file", "file": "edges.h5", **more}
    population = {"op": "projection", "units": 2, "inputs": ["x"], "connect": connect}
    graph = graph_from({"vertices": {"x": {"op": "input", "shape": [4]}, "p": population}}, folder)
    synapses = graph.vertices["p"].call["synapses"]
    order = np.argsort(synapses.pre)
    assert synapses.pre[order].tolist() == SOURCE.tolist()
    assert synapses.post[order].tolist() == TARGET.tolist()
    return synapses.delay[order].tolist(), initialise(graph, 0)["p.weight"][order].tolist(), synapses.notes


def test_edges_have_what_their_types_give(tmp_path):
    write(tmp_path, {**IDS, "0": None}, TYPES)
    with h5py.File(tmp_path / "edges.h5", "a") as file:
        file.create_group("edges/a_to_b/0")
        file.create_group("edges/a_to_b/1")
    assert read(tmp_path, types="types.csv") == ([2, 3, 2, 3], [0.25, -0.5, 0.25, -0.5], ())


def test_what_a_group_gives_goes_before_what_the_type_gives(tmp_path):
    """Rows of a group are in the order of edge_group_index; each group has attributes of its own."""
    groups = {"0/delay": np.array([5.0, 6.0]), "1/syn_weight": np.array([7.0, 8.0])}
    write(tmp_path, {**IDS, "edge_group_index": np.array([1, 0, 1, 0]), **groups}, TYPES)
    delays, weights, _ = read(tmp_path, types="types.csv")
    assert delays == [6, 5, 2, 3]
    assert weights == [0.25, -0.5, 8.0, 7.0]


def test_an_edge_of_several_synapses_has_its_weight_times_their_number(tmp_path):
    write(tmp_path, {**IDS, "0/nsyns": np.array([10, 1]), "1/syn_weight": np.array([1.0, 2.0])}, TYPES)
    assert read(tmp_path, types="types.csv")[1] == [2.5, -0.5, 1.0, 2.0]
    (tmp_path / "types.csv").write_text("edge_type_id delay syn_weight nsyns\n100 2.0 0.25 4\n101 3.0 -0.5 NULL\n")
    assert read(tmp_path, types="types.csv")[1] == [2.5, -0.5, 4.0, 2.0]
    assert read(tmp_path, types="types.csv", ignore=["nsyns"])[1] == [0.25, -0.5, 1.0, 2.0]


def test_tables_are_separated_by_spaces_and_may_hold_quoted_text(tmp_path):
    table = (
        'population  edge_type_id target_query              delay syn_weight\n'
        'a_to_b      100          "pop_name==\'a\' & ""x"""   2.0   0.25\n\n'
        'other       100          NULL                      9.0   9.0\n'
        'a_to_b      101          NULL                      3.0   -0.5 \n'
    )  # fmt: skip
    write(tmp_path, {**IDS, "edge_group_id": np.zeros(4, int), "edge_group_index": np.arange(4)}, table)
    delays, weights, notes = read(tmp_path, types="types.csv")
    assert (delays, weights) == ([2, 3, 2, 3], [0.25, -0.5, 0.25, -0.5])
    assert notes == ("edges 'a_to_b' of edges.h5: of no consequence here, and left out: population, target_query",)


def test_milliseconds_become_ticks_without_rounding(tmp_path):
    plain = {**IDS, "edge_group_id": np.zeros(4, int), "edge_group_index": np.arange(4)}
    write(tmp_path, plain, TYPES.replace("2.0", "1.6").replace("3.0", "2.2"))
    assert read(tmp_path, types="types.csv", tick=0.2)[0] == [8, 11, 8, 11]
    with pytest.raises(InputError, match=r"synapse 0 has delay 1\.6, expected a whole number of ticks"):
        read(tmp_path, types="types.csv")


def test_what_is_not_simulated_is_named(tmp_path):
    table = "edge_type_id delay syn_weight model_template dynamics_params weight_function\n"
    table += "100 2.0 0.25 Exp2Syn exc.json wmax\n101 3.0 -0.5 static_synapse NULL wmax\n"
    groups = {"0/afferent_section_id": np.array([1, 1]), "1/dynamics_params/tau": np.array([1.0, 2.0])}
    write(tmp_path, {**IDS, **groups, "0/plasticity": np.zeros(2)}, table)
    changed, left_out = read(tmp_path, types="types.csv")[2]
    assert changed.endswith("may change the result: dynamics_params, model_template (Exp2Syn), plasticity")
    assert left_out.endswith("of no consequence here, and left out: afferent_section_id")
    ignore = ["dynamics_params", "model_template", "plasticity", "afferent_section_id"]
    assert read(tmp_path, types="types.csv", ignore=ignore)[2] == ()


def test_nodes_in_the_same_file_are_as_many_as_the_neurons(tmp_path):
    write(tmp_path, {**IDS, "edge_group_id": np.zeros(4, int), "edge_group_index": np.arange(4)}, TYPES)
    with h5py.File(tmp_path / "edges.h5", "a") as file:
        file["edges/a_to_b/source_node_id"].attrs["node_population"] = "a"
        file["edges/a_to_b/target_node_id"].attrs["node_population"] = np.bytes_("b")
        file["nodes/a/node_type_id"], file["nodes/b/node_type_id"] = np.zeros(4, int), np.zeros(2, int)
    note = "edges 'a_to_b' of edges.h5: the types and attributes of nodes, which the file holds too, are not read"
    assert read(tmp_path, types="types.csv")[2] == (note,)
    assert read(tmp_path, types="types.csv", ignore=["nodes"])[2] == ()
    with h5py.File(tmp_path / "edges.h5", "a") as file:
        del file["nodes/b/node_type_id"]
        file["nodes/b/node_type_id"] = np.zeros(3, int)
    with pytest.raises(
        InputError, match="target_node_id: are nodes of 'b', of which the file has 3; the population has 2"
    ):
        read(tmp_path, types="types.csv")


def index_of(nodes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an index as the format has it: for each node its ranges, for each range its edges."""
    ranges, of_node = [], []
    for node in range(count):
        edges = np.flatnonzero(nodes == node)
        of_node.append([len(ranges), len(ranges) + len(edges)] if len(edges) else [-1, -1])
        ranges += [[edge, edge + 1] for edge in edges]
    return np.array(of_node), np.array(ranges)


def test_an_index_agrees_with_its_edges_or_is_refused(tmp_path):
    source, ranges = index_of(SOURCE, 4)
    target, targets = np.array([[0, 1], [1, 2]]), np.array([[0, 2], [2, 4]])
    index = {
        "indices/source_to_target/node_id_to_ranges": source, "indices/source_to_target/range_to_edge_id": ranges,
        "indices/target_to_source/node_id_to_ranges": target, "indices/target_to_source/range_to_edge_id": targets,
    }  # fmt: skip
    write(tmp_path, {**IDS, "0/nsyns": np.ones(2), "1/nsyns": np.ones(2), **index}, TYPES)
    assert read(tmp_path, types="types.csv")[0] == [2, 3, 2, 3]
    for name, wrong in (("node_id_to_ranges", source[::-1]), ("range_to_edge_id", ranges * 0 + [0, 1])):
        with h5py.File(tmp_path / "edges.h5", "a") as file:
            kept = file[f"edges/a_to_b/indices/source_to_target/{name}"][:]
            file[f"edges/a_to_b/indices/source_to_target/{name}"][:] = wrong
        with pytest.raises(InputError, match="indices/source_to_target: does not agree with source_node_id"):
            read(tmp_path, types="types.csv")
        assert read(tmp_path, types="types.csv", ignore=["indices"])[0] == [2, 3, 2, 3]
        with h5py.File(tmp_path / "edges.h5", "a") as file:
            file[f"edges/a_to_b/indices/source_to_target/{name}"][:] = kept


def test_types_without_their_table_are_refused_where_they_would_give_something(tmp_path):
    write(tmp_path, {**IDS, "0/delay": np.ones(2), "1/delay": np.ones(2)})
    (tmp_path / "b_edge_types.csv").write_text(TYPES)
    message = r"edges have types \(edge_type_id\), and no syn_weight of their own; .*beside it: b_edge_types.csv"
    with pytest.raises(InputError, match=message):
        read(tmp_path)
    assert read(tmp_path, ignore=["edge_type_id"])[0] == [1, 1, 1, 1]
    write(tmp_path, {"0/syn_weight": np.ones(2), "1/syn_weight": np.ones(2)})
    assert read(tmp_path)[2] == (
        "edges 'a_to_b' of edges.h5: edges have types, and no table of them was named as 'types'",
    )


@pytest.mark.parametrize(
    ("change", "types", "message"),
    [
        ({}, "edge_type_id delay\n100 2.0\n", "types: .*has no edge type 101, which edges of a_to_b have"),
        ({}, "edge_type_id delay\n100 2.0\n101 NULL\n", "edge 1, of type 101, has no delay, and others have one"),
        ({}, "edge_type_id delay\n100 2.0\n101 soon\n", "types: .*delay of edge type 101 is 'soon', expected a finite"),
        ({}, "edge_type_id delay\n100 inf\n101 1\n", "delay of edge type 100 is 'inf', expected a finite number"),
        ({}, "edge_type_id delay\n100 2.0 1\n", r"types.csv:2: 3 fields, expected 2, as in the first line"),
        ({}, "edge_type_id delay\n100 2.0\n100 3.0\n", r"types.csv:3: edge type 100 is there twice"),
        ({}, "edge_type_id,delay\n100,2.0\n", "columns are separated by spaces, not by commas"),
        ({}, "edge_type delay\n100 2.0\n", "no column 'edge_type_id'; did you mean 'edge_type'"),
        ({}, "", "types: .*has no column 'edge_type_id'"),
        ({}, TYPES.replace("delay", "dealy"), "unknown attribute 'dealy'; did you mean 'delay'"),
        ({"0/Delay": np.ones(2)}, TYPES, "unknown attribute 'Delay'; did you mean 'delay'"),
        ({"0/nsyns": np.array([1.5, 1])}, TYPES, "nsyns of edge 0 is 1.5, expected a whole number"),
        ({"0/nsyns": np.array([2, 1])}, "edge_type_id delay\n100 1\n101 1\n", "nsyns multiplies weights"),
        ({"0/weight": np.ones(2), "0/syn_weight": np.ones(2)}, TYPES, "there are both weight and syn_weight"),
        ({"edge_group_id": np.array([0, 0, 1, 7])}, TYPES, "edge_group_id: names group 7; known: 0, 1"),
        ({"edge_group_index": np.array([0, 9, 0, 1]), "0/delay": np.ones(2)}, TYPES, r"0/delay: is .* shape \[2\]"),
        ({"edge_group_index": np.array([0, -1, 0, 1])}, TYPES, "edge_group_index: holds -1, expected 0 or more"),
        ({"edge_group_index": None}, TYPES, "there are several groups and no edge_group_index"),
        ({"0/delay": np.array(["a", "b"], "S1")}, TYPES, r"0/delay: is \|S1 of shape \[2\], expected 2 numbers"),
        ({"edge_type_id": None}, TYPES, "there is no edge_type_id, so a table of types says nothing"),
        ({"edge_type_id": np.arange(3)}, TYPES, r"edge_type_id is int64 of shape \[3\], expected 4"),
        ({"source_node_id": None}, TYPES, "/edges/a_to_b has no source_node_id"),
        ({"edge_type_id/x": np.arange(4), "edge_type_id": None}, TYPES, "edge_type_id is a group, expected a dataset"),
        ({"0/delay/x": np.arange(4)}, TYPES, "0/delay: is a group, expected 2 numbers"),
        ({"indices": np.arange(4)}, TYPES, r"/indices is int64 of shape \[4\], expected a group"),
        ({"source_node_id": np.arange(1, 5)}, TYPES, "there is no pre 4 of synapse 3: the population has 4 neurons"),
    ],
)  # fmt: skip
def test_files_that_contradict_themselves(tmp_path, change, types, message):
    empty = {"0/x": np.zeros(2), "1/x": np.zeros(2)}
    write(tmp_path, {**IDS, **empty, **change}, types)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, types="types.csv")
    assert len(caught.value.problems) == 1


def test_names_to_ignore_are_names_of_the_file(tmp_path):
    write(tmp_path, {**IDS, "0/nsyns": np.ones(2), "1/nsyns": np.ones(2)}, TYPES)
    with pytest.raises(InputError, match=r"connect\.ignore: .*has no 'nsyn'; did you mean 'nsyns'"):
        read(tmp_path, types="types.csv", ignore=["nsyn"])
    with pytest.raises(InputError, match=r"connect\.ignore: got 'nsyns', expected a list of names"):
        read(tmp_path, types="types.csv", ignore="nsyns")


@pytest.mark.parametrize("name", ["source_node_id", "0/delay", "indices/source_to_target/range_to_edge_id"])
def test_absurd_sizes_are_refused_before_memory_is_taken(tmp_path, name):
    """A dataset may claim any size without taking room in its file."""
    index = {
        f"indices/source_to_target/{part}": np.zeros((4, 2), int) for part in ("node_id_to_ranges", "range_to_edge_id")
    }
    write(tmp_path, {key: array for key, array in {**IDS, **index, "0/x": np.zeros(2)}.items() if key != name}, TYPES)
    with h5py.File(tmp_path / "edges.h5", "a") as file:
        shape = (10**13, 2) if "range" in name else (10**13,)
        file["edges/a_to_b"].create_dataset(name, shape, "u8", chunks=True)
    with pytest.raises(InputError, match=r"connect\.file: "):
        read(tmp_path, types="types.csv")


def test_tables_are_sought_beside_the_document(tmp_path):
    (tmp_path / "graphs").mkdir()
    write(tmp_path / "graphs", {**IDS, "edge_group_id": np.zeros(4, int), "edge_group_index": np.arange(4)}, TYPES)
    (tmp_path / "graphs/g.yaml").write_text(
        "vertices:\n  x: {op: input, shape: [4]}\n"
        "  p: {op: projection, units: 2, inputs: [x], connect: {rule: from_file, file: edges.h5, types: types.csv}}\n"
    )
    (tmp_path / "s.yaml").write_text("graph: {file: graphs/g.yaml}\ninputs: {x: 1}\ntargets: {p: 0}\nrule: il\n")
    assert pcsim.load_graph(tmp_path / "graphs/g.yaml").vertices["p"].call["synapses"].delays == (2, 3)
    assert pcsim.synapses(tmp_path / "s.yaml", "p")["weight"].values.tolist() == [0.25, -0.5, 0.25, -0.5]
    assert pcsim.simulate(tmp_path / "s.yaml", {"rule.ticks": 2}, out=tmp_path / "run").summary["ticks"] == 2


def test_what_is_no_table_is_refused(tmp_path):
    write(tmp_path, {**IDS, "0/x": np.zeros(2), "1/x": np.zeros(2)})
    (tmp_path / "types.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"connect\.types: cannot read"):
        read(tmp_path, types="types.csv")
    with pytest.raises(InputError, match=r"connect\.types: cannot read .*no such file"):
        read(tmp_path, types="none.csv")


def test_an_index_of_fractions_is_refused(tmp_path):
    plain = {**IDS, "edge_type_id": None, "edge_group_id": None, "edge_group_index": None}
    own = {"0/delay": np.ones(4), "0/syn_weight": np.ones(4)}
    ranges = np.array([[0, 1], [1, 2], [2, 3], [3, 4]])
    index = {"node_id_to_ranges": ranges, "range_to_edge_id": ranges + 0.5}
    write(tmp_path, {**plain, **own, **{f"indices/source_to_target/{key}": table for key, table in index.items()}})
    with pytest.raises(InputError, match="does not agree with source_node_id"):
        read(tmp_path)


def test_edges_that_share_a_row_of_their_group_are_named(tmp_path):
    groups = {"0/syn_weight": np.array([5.0, 6.0]), "1/nsyns": np.ones(2)}
    write(tmp_path, {**IDS, "edge_group_index": np.array([0, 0, 0, 1]), **groups}, TYPES)
    _, weights, notes = read(tmp_path, types="types.csv")
    assert weights[:2] == [5.0, 5.0]
    said = "2 edges have edge_group_index 0 of group 0, and so the same syn_weight"
    assert notes == (f"edges 'a_to_b' of edges.h5: {said}",)


def test_an_index_without_one_of_its_tables_is_refused_with_a_remedy(tmp_path):
    index = {"indices/source_to_target/node_id_to_ranges": index_of(SOURCE, 4)[0]}
    write(tmp_path, {**IDS, "0/nsyns": np.ones(2), "1/nsyns": np.ones(2), **index}, TYPES)
    said = "indices/source_to_target: has no range_to_edge_id: make it anew, or list indices under 'ignore'"
    with pytest.raises(InputError, match=said):
        read(tmp_path, types="types.csv")

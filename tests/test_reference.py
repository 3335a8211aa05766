"""The reference and the JSON Schemas: made of the rows and the models, complete, and open to rows of a stranger."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from strategies import random_document
from typer.testing import CliRunner

import pcsim
from pcsim.analysis.measures import MEASURES, Measure
from pcsim.analysis.meter import _CRITERIA
from pcsim.cli import app
from pcsim.engines import ENGINES
from pcsim.errors import RunError
from pcsim.graph.graph_document import GraphDocument
from pcsim.ops import FEEDBACKS, LOSSES, OPS, Attribute
from pcsim.ops.attributes import choice, fraction
from pcsim.ops.synapses.connect import CONNECTIONS, Connection
from pcsim.ops.synapses.delays import DELAYS
from pcsim.rules import FIRINGS, RULES
from pcsim.run.probes import SERIES, UNITS
from pcsim.scenario.scenario_document import CRITERIA, QUANTITIES, ScenarioDocument
from pcsim.view.json_schema import json_schema, plain_schema
from pcsim.view.listing import LISTS


def call(*arguments, code=0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def page():
    """Return the reference as data: {section: rows}."""
    return {section["name"]: section["rows"] for section in json.loads(call("list", "--all", "--json").stdout)}


def names(rows):
    return [next(iter(row.values())) for row in rows]


# -- what is in it ----------------------------------------------------------------------------------------


def test_every_key_and_every_attribute_has_a_description():
    found = page()
    rows = [row for section in found.values() for row in section]
    keys = [key for row in rows for key in row.get("keys", ())]
    assert len(keys) > 50
    assert [row for row in [*rows, *keys] if not row["summary"]] == []
    typed = [row for section in ("scenario", "graph") for row in found[f"keys of a {section} document"]]
    assert [row["key"] for row in [*typed, *keys] if not row["type"]] == []


@pytest.mark.parametrize("what", ["graph", "scenario"])
def test_every_key_of_the_schemas_has_a_description(what):
    found = json_schema(what)
    bare = [
        (where, key)
        for where, part in properties(found)
        for key, value in part.items()
        if not value.get("description") and "const" not in value
    ]
    assert bare == []
    of_ops = {rule["if"]["properties"]["op"]["const"]: rule["then"] for rule in json_of_vertices(what)}
    for op in OPS.values():
        for name, attribute in op.attributes.items():
            said = of_ops[op.name]["properties"][name]
            assert said["description"] == attribute.summary
            assert said.get("default") == json.loads(json.dumps(attribute.default))
            assert (name in of_ops[op.name]["required"]) == attribute.required


def json_of_vertices(what):
    return json_schema(what)["$defs"]["VertexEntry"]["else"]["allOf"]


def properties(schema, where="document"):
    """Yield every mapping of keys to schemas."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield where, schema["properties"]
        for key, part in schema.items():
            yield from properties(part, key)
    elif isinstance(schema, list):
        for part in schema:
            yield from properties(part, where)


def test_every_row_is_in_it():
    found = page()
    tables = {"ops": OPS, "connections": CONNECTIONS, "losses": LOSSES, "feedbacks": FEEDBACKS, "rules": RULES,
              "firings": FIRINGS, "engines": ENGINES, "measures": MEASURES, "quantities": QUANTITIES,
              "criteria": CRITERIA}  # fmt: skip
    for name, table in tables.items():
        assert names(found[name]) == list(table), name
    assert set(DELAYS) <= set(names(found["delays"]))
    assert set(found) == {"keys of a scenario document", "keys of a graph document", *LISTS} - {"scenarios", "claims"}
    assert set(ScenarioDocument.model_fields) <= set(names(found["keys of a scenario document"]))
    assert set(GraphDocument.model_fields) <= set(names(found["keys of a graph document"]))
    assert {"vertices.NAME.inputs[].delay.error", "vertices.NAME.use"} <= set(names(found["keys of a graph document"]))
    assert set(re.findall(r"\[[A-Z][A-Za-z]*\]", json.dumps(found))) <= set(names(found["papers"]))
    assert [row["exit_code"] for row in found["exits"]] == [0, 1, 2, 130, 143]
    assert {row["error"]: row["exit_code"] for row in found["errors"]}["InputError"] == 2


def test_what_is_said_of_choices_is_what_is_taken():
    assert set(CRITERIA) == set(_CRITERIA)
    assert set(QUANTITIES) == {*UNITS, *SERIES, "message", "update"}
    for op in OPS.values():
        for name, attribute in op.attributes.items():
            if not attribute.required and attribute.default is not None:
                assert attribute.parse(attribute.default) == attribute.default, (op.name, name)
    for name, entry in plain_schema("scenario")[0]["properties"].items():
        for choice_ in entry.get("enum", ()):
            base = {"graph": {"formula": "a * b"}, "rule": "il"}
            assert getattr(ScenarioDocument.model_validate({**base, name: choice_}), name) == choice_


@pytest.mark.parametrize(("op", "shapes", "given"), [
    ("affine", ((3,),), {"units": 2}), ("weighted_sum", ((3,),), {}), ("parameter", (), {"shape": [2]}),
    ("batch_norm", ((3,),), {}), ("layer_norm", ((3,),), {}), ("rms_norm", ((3,),), {}),
    ("group_norm", ((4,),), {"groups": 2}), ("instance_norm", ((3, 2),), {}),
    ("embedding", ((3,),), {"entries": 4, "units": 2}),
])  # fmt: skip
def test_parameter_slots_are_those_that_an_op_makes(op, shapes, given):
    from pcsim.ops import complete

    assert set(OPS[op].params(complete(OPS[op], shapes, given))) == set(OPS[op].slots)


def test_ops_without_slots_have_no_parameters():
    made = pcsim.load_graph({"vertices": {
        "x": {"op": "input", "shape": [4, 4]},
        "i": {"op": "input", "shape": [4, 4], "format": "whole"},
        **{name: {"op": name, "inputs": ["i" if op.slot(n).format == "whole" else "x" for n in range(op.arity[0])]}
           for name, op in OPS.items()
           if op.arity[0] and not op.slots and not any(row.required for row in op.attributes.values())
           and name not in ("power", "resize") and all(slot.format == "float" for slot in op.inputs)},
    }})  # fmt: skip
    assert len(made.vertices) > 20
    assert made.parameters == {}


def test_it_is_text_markdown_and_data():
    text, markdown = call("list", "--all").stdout, call("list", "--all", "--markdown").stdout
    for section, rows in page().items():
        assert f"\n## {section}\n" in f"\n{markdown}"
        assert section in text
        for name in names(rows):
            assert f"\n| {name} |" in markdown
    for line in markdown.splitlines():
        assert not line or line.startswith(("|", "## ")) or line.endswith((".", "`"))
    assert call("list", "rules", "--markdown").stdout.startswith("## rules\n")
    assert "name one list" in call("list", code=2).stderr
    assert "name one list" in call("list", "ops", "--all", code=2).stderr


# -- rows of a stranger -----------------------------------------------------------------------------------


def test_rows_of_a_stranger_show_by_themselves(monkeypatch):
    class LostError(RunError):
        """A message was lost."""

    LostError.__module__ = "pcsim.stranger"
    attributes = {
        "share": Attribute(fraction, 0.25, summary="how much is kept"),
        "side": Attribute(choice("a side", ("left", "right")), required=True, summary="where from"),
        "odd": Attribute(lambda value: value, summary="a check that says nothing of itself"),
    }
    keys = {"reach": Attribute(fraction, required=True, summary="how far")}
    rows = [
        (OPS, replace(OPS["tanh"], name="gate", summary="a gate", attributes=attributes)),
        (LOSSES, replace(LOSSES["squared_error"], name="quartic", summary="fourth powers")),
        (FEEDBACKS, replace(FEEDBACKS["symmetric"], name="copied", summary="copied weights")),
        (FIRINGS, replace(FIRINGS["end"], name="never", summary="not at all")),
        (RULES, replace(RULES["il"], name="own", summary="a rule of one's own")),
        (ENGINES, replace(ENGINES["numpy"], name="mine", summary="an engine of one's own")),
        (MEASURES, Measure("width", "how wide", dict)),
        (CONNECTIONS, Connection("near", "the nearest", CONNECTIONS["one_to_one"].count,
                                 CONNECTIONS["one_to_one"].synapses, keys)),
    ]  # fmt: skip
    for table, row in rows:
        monkeypatch.setitem(table, row.name, row)
    found = page()
    (gate,) = (row for row in found["ops"] if row["op"] == "gate")
    assert [(key["key"], key["type"], key["default"]) for key in gate["keys"]] == [
        ("share", "number from 0 to below 1", "0.25"), ("side", "left | right", "required"), ("odd", "any value", "")
    ]  # fmt: skip
    text = call("list", "--all", "--markdown").stdout
    for _, row in rows:
        assert f"| {row.name} |" in text
        assert row.summary in text
    assert "| LostError | 1 | A message was lost. |" in text
    assert "| near | reach | number from 0 to 1" in text.replace("to below 1", "to 1")
    assert "own" in json_schema("scenario")["$defs"]["RuleEntry"]["properties"]["name"]["enum"]
    checked(graph_of({"op": "gate", "inputs": ["x"], "side": "left"}), right=True)
    checked(graph_of({"op": "gate", "inputs": ["x"], "side": "above"}), right=False)


# -- what the schema refuses -------------------------------------------------------------------------------


def graph_of(vertex):
    return {"vertices": {"x": {"op": "input", "shape": [2]}, "y": vertex}}


def checked(document, *, right):
    jsonschema = pytest.importorskip("jsonschema")
    assert jsonschema.Draft202012Validator(json_schema("graph")).is_valid(document) == right, document


def test_the_schema_knows_the_attributes_of_every_op():
    affine = {"op": "affine", "units": 3, "inputs": ["x"]}
    near = {"rule": "distance_dependent", "scale": 0.1, "profile": "exponential"}
    projection = {"op": "projection", "units": 3, "inputs": ["x"], "connect": near}
    for more in ({}, {"activation": "tanh"}, {"activation": None}, {"activation": "$f"}, {"units": "$(2 * n)"},
                 {"init": {"weight": {"normal": [0, 1]}}}, {"op": "$kind", "unit": 3}):  # fmt: skip
        checked(graph_of({**affine, **more}), right=True)
    for more in ({"activation": "tahn"}, {"units": 0}, {"bias": "yes"}, {"unit": 3}, {"op": "afine"},
                 {"init": {"weight": {"gaussian": [0, 1]}}}):  # fmt: skip
        checked(graph_of({**affine, **more}), right=False)
    checked(graph_of({"op": "affine", "inputs": ["x"]}), right=False)
    for delays in (3, {"uniform": [0, 7]}, {"values": [1, "$d"]}):
        checked(graph_of({**projection, "delays": delays}), right=True)
    for more in ({"delays": {"uniform": [0]}}, {"connect": {"rule": "distance_dependent"}},
                 {"connect": {**near, "sacle": 1}}, {"connect": {"rule": "nearby"}}):  # fmt: skip
        checked(graph_of({**projection, **more}), right=False)


def test_the_schema_takes_the_documents_that_are_read():
    for seed in range(30):
        document = json.loads(json.dumps(random_document(seed), default=np.ndarray.tolist))
        pcsim.load_graph(document)
        checked(document, right=True)


# -- the version ------------------------------------------------------------------------------------------


def test_the_version_and_where_it_is_installed():
    said = call("--version").stdout
    assert said.startswith(f"pcsim {pcsim.__version__} (Python 3.")
    assert str(Path(pcsim.__file__).parent) in said

"""What the documents show works, and every test that they name exists."""

import ast
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.engines import ENGINES
from pcsim.ops.synapses.connect import CONNECTIONS
from pcsim.rules import RULES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DESIGN = (ROOT / "pcsim" / "DESIGN.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def at_root(monkeypatch, tmp_path):
    """A folder with the shipped documents, so that what a command writes goes elsewhere."""
    for name in ("scenarios", "graphs"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)


def test_readme_opens_with_two_commands_that_set_themselves_up():
    first, second = blocks("sh")[:2]
    for command in (first, second):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install")
        assert command.count("\n") == 1
    assert "pcsim sweep scenarios/ticks-against-depth.yaml" in first
    assert "pytest" in second


def test_commands_of_the_readme_work_in_their_order(at_root):
    commands = [line for line in blocks("sh")[2].splitlines() if line.startswith("pcsim ")]
    assert len(commands) >= 8
    for command in commands:
        result = CliRunner().invoke(app, shlex.split(command, comments=True)[1:])
        assert result.exit_code == 0, (command, result.output)


def test_python_of_the_readme_works(at_root):
    (code,) = blocks("python")
    names: dict = {}
    exec(code, names)
    found = names["run"].summary["ticks_to_convergence"]
    said = re.search(r"\{'ticks': (\d+), .*'predicted': (\d+)\}", code)
    assert (found["ticks"], found["predicted"]) == (int(said[1]), int(said[2]))


def test_graph_of_the_readme_is_the_one_that_ships():
    shipped = yaml.safe_load((ROOT / "scenarios" / "first-steps.yaml").read_text())
    shipped.pop("about")
    assert yaml.safe_load(blocks("yaml")[0]) == shipped


def test_table_of_the_readme_is_what_the_main_job_measures():
    table = re.search(r"^ depth .*?```", README, re.DOTALL | re.MULTILINE)[0]
    said = {
        int(row.split()[0]): [int(n) for n in re.findall(r"(?<![(\d])\d+", row)][1:] for row in table.splitlines()[1:-1]
    }
    found = pcsim.sweep(ROOT / "scenarios" / "ticks-against-depth.yaml", {"sweep": _small(said)})
    measured: dict[int, list[int]] = {}
    for row in found.rows:
        measured.setdefault(row["graph.depth"], []).append(row["ticks_to_convergence"]["ticks"])
    assert measured == {depth: said[depth] for depth in measured}


def _small(said):
    document = yaml.safe_load((ROOT / "scenarios" / "ticks-against-depth.yaml").read_text())["sweep"]
    assert document["graph.depth"] == list(said)
    return {**document, "graph.depth": [1, 4]}


def test_rules_of_the_readme_are_the_rules():
    table = README[README.index("| rule | predictions |") : README.index("`pcsim list ops`, `rules`")]
    rows = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    assert rows == list(RULES)


def test_scenarios_of_the_readme_are_those_that_ship():
    named = set(re.findall(r"^\| `([a-z0-9-]+)` \|", README, re.MULTILINE)) - set(RULES) - set(ENGINES)
    assert named == {
        path.stem for folder in ("scenarios", "scenarios/studies") for path in (ROOT / folder).glob("*.yaml")
    }


def test_engines_of_the_readme_are_those_there_are_and_their_extras_exist():
    table = README[README.index("| engine | how") : README.index("`engine: auto`")]
    assert set(re.findall(r"^\| `([a-z]+)` \|", table, re.MULTILINE)) == set(ENGINES)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in re.findall(r"pcsim\[(\w+)\]", README):
        assert extra in extras


def test_population_of_the_readme_is_built():
    (document,) = (found for block in blocks("yaml") if "projection" in str(found := yaml.safe_load(block)))
    graph = pcsim.load_graph({**document, "outputs": ["y"]})
    assert len(graph.incoming["a"]) == 8
    assert len(graph.vertices["a"].call["synapses"]) == 10**6


def test_ops_on_batches_of_the_readme_are_built():
    written = [yaml.safe_load(text) for text in re.findall(r"`(\{op: (?:batch_norm|dropout|embedding).*?\})`", README)]
    assert [entry["op"] for entry in written] == ["batch_norm", "dropout", "embedding"]
    source = yaml.safe_load(re.search(r"`i: (\{.*?\})`", README)[1])
    for entry in [*written, {**written[0], "statistics": re.search(r"`statistics: (\w+)`", README)[1]}]:
        vertices = {"x": {"op": "input", "shape": [16]}, "h": {"op": "tanh", "inputs": ["x"]}, "i": source, "v": entry}
        assert pcsim.load_graph({"vertices": vertices, "outputs": ["v"]}).vertices["v"].op.name == entry["op"]


def test_options_of_the_readme_exist(at_root):
    shown = CliRunner().invoke(app, ["run", "--help"]).output
    for option in set(re.findall(r"(--(?:checkpoint|resume|until|parameters))\b", README)):
        assert option in shown
    assert "--kernels" in CliRunner().invoke(app, ["plan", "--help"]).output
    np.savez("w.npz", **pcsim.parameters("scenarios/first-steps.yaml"))
    command = ["run", "scenarios/first-steps.yaml", "--parameters", "w.npz", "--checkpoint", "5", "--out", "runs/kept"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert pcsim.open_run("runs/kept").checkpoint().state.tick == 15
    assert pcsim.load("scenarios/first-steps.yaml", {"parameters": {"file": str(Path("w.npz").resolve())}}).parameters()


def test_connection_rules_of_the_readme_are_those_there_are():
    sentence = README[README.index("Connection rules") : README.index("Delays are one number")]
    assert set(re.findall(r"`([a-z]+_[a-z_]+)`", sentence)) == set(CONNECTIONS)


def test_commands_that_train_run(tmp_path, monkeypatch):
    (tmp_path / "scenarios").symlink_to(ROOT / "scenarios")
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line, comments=True) for line in blocks("sh")[3].splitlines()]
    assert [command[1] for command in commands] == ["train", "plot", "train"]
    for command in commands:
        assert CliRunner().invoke(app, command[1:]).exit_code == 0


def test_commands_that_measure_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line, comments=True) for line in blocks("sh")[4].splitlines()]
    for command in commands:
        if command[0] == "pcsim":
            given = [*command[1:], "--zoo", "layered", "--rule", "fpa", "--help"]
            assert CliRunner().invoke(app, given).exit_code == 0
        else:
            assert (ROOT / command[-1]).exists()


def test_every_test_that_the_design_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DESIGN)
    assert len(named) >= 40
    assert len(named) == len(re.findall(r"`tests/.*?::.*?`", DESIGN))
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}, (
            file,
            name,
        )


ROOMS = DESIGN[DESIGN.index("| room |") : DESIGN.index("## Glossary")]


def test_every_room_that_the_design_names_exists():
    rooms = re.findall(r"[|,] `([a-z/]+/|[a-z]+\.py)`", ROOMS)
    assert len(rooms) >= 20
    for room in rooms:
        assert (ROOT / "pcsim" / room).exists(), room


def test_every_room_and_every_module_of_the_engines_has_its_place_in_the_design():
    package = ROOT / "pcsim"
    folders = [path.parent for depth in ("*", "*/*") for path in package.glob(f"{depth}/__init__.py")]
    for folder in {str(path.relative_to(package)) for path in folders}:
        assert f"`{folder}/`" in ROOMS, folder
    for module in package.glob("*.py"):
        assert f"`{module.name}`" in ROOMS or module.name == "__init__.py", module
    for folder in ("engines", "engines/array", "engines/jit"):
        row = re.search(rf"^\| `{folder}/` \|(.*)", ROOMS, re.MULTILINE)[1]
        for module in re.findall(r"`([a-z_]+)`", row):
            assert (package / folder / f"{module}.py").exists(), module


def test_the_design_is_short():
    """250 lines in all, twelve a decision, forty words in the glossary."""
    assert DESIGN.count("\n") <= 250
    decisions = DESIGN[DESIGN.index("## Decisions") : DESIGN.index("## Where a new thing goes")].split("\n\n")[2:-1]
    numbers = [int(re.match(r"\*\*(\d+)\. ", text)[1]) for text in decisions]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(text.count("\n") < 12 for text in decisions)
    glossary = DESIGN[DESIGN.index("## Glossary") : DESIGN.index("## The tick")]
    assert 20 <= len(re.findall(r"\*\*[^*]+\*\*", glossary)) <= 40


def test_where_a_new_thing_goes_is_a_file_that_exists():
    table = DESIGN[DESIGN.index("## Where a new thing goes") :]
    for path in re.findall(r"`([a-z_/]+/|[a-z_/]+\.py)`", table):
        assert (ROOT / "pcsim" / path).exists() or (ROOT / path).exists(), path

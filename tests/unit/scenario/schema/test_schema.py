"""The schema's other readers: the editor's, and the reference page's."""

import re
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from mptcplab.scenario import load, load_topology
from mptcplab.scenario.schema.documentation import reference_page
from mptcplab.scenario.schema.json_schema import json_schema
from mptcplab.scenario.schema.keys import SCENARIO, TOPOLOGY, sections
from mptcplab.scenario.schema.source_files import read_toml

ROOT = Path(__file__).parents[4]
DATA = Path(str(resources.files("mptcplab.scenario"))) / "data"
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


@pytest.mark.parametrize("section", [SCENARIO, TOPOLOGY], ids=lambda section: section.name)
def test_it_is_a_schema(section: object) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema(section))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", sorted(DATA.glob("e*/*.toml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_shipped_scenarios_are_valid(path: Path) -> None:
    VALIDATOR.validate(read_toml(path))
    load(path)


@pytest.mark.parametrize("path", sorted(DATA.glob("topologies/*.toml")), ids=lambda path: path.stem)
def test_shipped_topologies_are_valid(path: Path) -> None:
    jsonschema.validate(read_toml(path), json_schema(TOPOLOGY), jsonschema.Draft202012Validator)
    load_topology(path)


def test_the_reference_page_is_current() -> None:
    page = ROOT / "docs" / "reference" / "scenario.md"
    assert page.read_text(encoding="utf-8") == reference_page(), (
        "run: mptcplab schema --documentation -o docs/reference/scenario.md"
    )


def test_the_reference_page_has_every_key() -> None:
    page = reference_page()
    for section in sections():
        for key in section.keys:
            assert re.search(rf"^\| (\*\*)?`{key}`", page, re.MULTILINE)


def test_the_page_s_example_is_the_one_that_runs() -> None:
    example = (DATA / "examples" / "two-links.toml").read_text(encoding="utf-8")
    assert f"```toml\n{example}```" in reference_page()


def test_every_key_is_documented() -> None:
    for section in sections():
        assert section.doc.endswith(".")
        for name, key in section.keys.items():
            assert key.doc.rstrip(")").endswith("."), f"{section.name}.{name}"

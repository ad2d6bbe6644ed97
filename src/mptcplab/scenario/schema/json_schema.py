"""The JSON Schema of scenario and topology files, for editors."""

from __future__ import annotations

from typing import Any

from mptcplab.scenario.schema.keys import SCENARIO
from mptcplab.scenario.schema.parts import Key, Rows, Rule, Section, Settings, Table, Tables
from mptcplab.scenario.schema.value_kinds import Kind

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_BETWEEN_NEEDED = {"properties": {"links": {"additionalProperties": {"required": ["between"]}}}}


def json_schema(section: Section = SCENARIO) -> dict[str, Any]:
    """Return the schema (Draft 2020-12) of a scenario file, or of a topology file.

    It describes a file's structure: keys, types, units and ranges.  What depends on the whole file
    (an unknown host, overlapping subnets) is left to ``mptcplab check``.
    """
    definitions: dict[str, Any] = {}
    schema = {
        "$schema": DIALECT,
        "title": f"mptcplab {section.name}",
        **_table(section, definitions),
    }
    if section is SCENARIO:  # a link of the topology may be changed in part
        whole = [{"required": ["topology"]}, {"required": ["generate"]}]
        schema["if"] = {"not": {"anyOf": whole}}
        schema["then"] = _BETWEEN_NEEDED
    else:
        schema.update(_BETWEEN_NEEDED | {"properties": schema["properties"]})
        schema["allOf"] = [_BETWEEN_NEEDED]
    schema["$defs"] = dict(sorted(definitions.items()))
    return schema


def _table(section: Section, definitions: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "description": section.doc,
        "type": "object",
        "properties": {
            name: {"description": _description(key), **_value(key, definitions)}
            for name, key in section.keys.items()
        },
        "additionalProperties": False,
    }
    required = [name for name, key in section.keys.items() if key.required and name != "between"]
    if required:
        schema["required"] = required
    if section.rules:
        schema["allOf"] = [_rule(rule) for rule in section.rules]
    return schema


def _rule(rule: Rule) -> dict[str, Any]:
    each = [{"required": [key]} for key in rule.keys]
    if rule.least and rule.most == 1:
        return {"oneOf": each}
    if rule.least:
        return {"anyOf": each}
    return {"not": {"required": list(rule.keys)}}


def _description(key: Key) -> str:
    default = key.shown or ("" if key.default in (None, "", ()) else shown_default(key))
    return f"{key.doc} Default: {default}." if default else key.doc


def shown_default(key: Key) -> str:
    """Return a key's default as a file would have it, empty where there is none."""
    if key.shown or key.default is None:
        return key.shown
    if isinstance(key.default, bool):
        return str(key.default).lower()
    return f'"{key.default}"' if isinstance(key.default, str) else str(key.default)


def _reference(section: Section, definitions: dict[str, Any]) -> dict[str, Any]:
    if section.name not in definitions:
        definitions[section.name] = {}
        definitions[section.name] = _table(section, definitions)
    return {"$ref": f"#/$defs/{section.name}"}


def _value(key: Key, definitions: dict[str, Any]) -> dict[str, Any]:
    kind = key.kind
    if isinstance(kind, Kind):
        return kind.json
    if isinstance(kind, Table):
        return _reference(kind.section, definitions)
    if isinstance(kind, Rows):
        return _rows(kind, definitions)
    if isinstance(kind, Settings):
        return _named(kind.name_pattern, kind.kind.json)
    return _tables(kind, definitions)


def _rows(kind: Rows, definitions: dict[str, Any]) -> dict[str, Any]:
    row = _reference(kind.section, definitions)
    if not kind.shorthand:
        return {"type": "array", "items": row}
    short = kind.section.keys[kind.shorthand].kind
    assert isinstance(short, Kind)
    return {"anyOf": [short.json, {"type": "array", "items": {"anyOf": [row, short.json]}}]}


def _tables(kind: Tables, definitions: dict[str, Any]) -> dict[str, Any]:
    entry = _reference(kind.section, definitions)
    if kind.shorthand:
        short = kind.section.keys[kind.shorthand].kind
        assert isinstance(short, Kind)
        entry = {"anyOf": [entry, short.json]}
    schema = _named(kind.name_pattern, entry)
    if kind.listed:
        names = {"type": "string", "pattern": f"^{kind.name_pattern}$"}
        schema = {"anyOf": [schema, {"type": "array", "items": names, "uniqueItems": True}]}
    return schema


def _named(pattern: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "patternProperties": {f"^({pattern})$": entry},
        "additionalProperties": False,
    }

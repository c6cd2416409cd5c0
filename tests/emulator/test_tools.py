"""Which tools are mentioned, and what a schema would accept."""

from __future__ import annotations

import jsonschema
import pytest

from neev_provider.emulator.prompt import simplified
from neev_provider.emulator.tools import choose_tools, example

SCHEMAS = [
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["b"]},
    {
        "type": "object",
        "properties": {"a": {"enum": ["x", "y"]}, "b": {"const": 5}, "c": {"type": "boolean"}},
    },
    {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "number"}, "minItems": 2}}},
    {"type": "object", "properties": {"a": {"type": "string", "minLength": 9, "maxLength": 12}}},
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 10, "maximum": 12}}},
    {"type": "object", "properties": {"a": {"type": "integer", "maximum": -3}}},
    {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"type": "string"}]}}},
    {"type": "object", "properties": {"a": {"type": ["string", "null"]}}},
    {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "null"}}}}},
    {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/x"}},
        "required": ["a"],
        "$defs": {"x": {"type": "string", "maxLength": 3}},
    },
    {"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"properties": {"b": {}}}]},
    {"type": "object"},
    {},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_example_of_a_schema_fulfils_it(schema):
    jsonschema.validate(example(schema, "some text that is long enough"), schema)


def test_the_example_of_a_recursive_schema_ends():
    schema = {"properties": {"child": {"$ref": "#"}}, "required": ["child"]}
    assert "child" in example(schema, "x")


@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_fulfils_the_simplified_schema_fulfils_the_schema(schema):
    jsonschema.validate(example(simplified(schema), "some text"), {"type": "object", **schema})


def test_the_simplified_schema_holds_no_keyword_that_the_grammar_does_not_know():
    schema = {
        "type": "object",
        "not": {"required": ["z"]},
        "properties": {"a": {"type": "string", "pattern": "^x", "format": "weird", "title": "A"}},
    }
    assert simplified(schema) == {
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 0, "maxLength": 64}},
        "required": [],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("name", "text", "mentioned"),
    [
        ("get_weather", "The WEATHER today?", True),
        ("getWeather", "the weather today?", True),
        ("get_weather", "whether or not", False),
        ("send_email", "send an email", True),
        ("send_email", "the email", False),
        ("get", "get it", True),
        ("search-web", "look in the web", True),
        ("___", "anything", False),
    ],
)
def test_a_tool_is_mentioned_by_the_words_of_its_name(name, text, mentioned):
    body = {"tools": [{"type": "function", "function": {"name": name}}], "messages": [{"role": "user"}]}
    assert bool(choose_tools(body, text)) is mentioned

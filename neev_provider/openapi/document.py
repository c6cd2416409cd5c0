"""Puts the document together: paths, request bodies, answers, errors, the security scheme. Pure functions.

Called by the gateway's start and by the command line.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import msgspec

from neev_provider.contract import (
    CLIENT_FORBIDDEN_FAMILY,
    CLIENT_FORBIDDEN_FIELDS,
    LITELLM_ONLY_FIELDS,
    ChatBody,
    SpeechBody,
)
from neev_provider.openapi import answers
from neev_provider.openapi.admin import ADMIN, AdminOperation
from neev_provider.openapi.failures import (
    READ,
    REQUEST_ID,
    WITH_A_BODY,
    WITH_A_MODEL,
    failure_components,
    failures,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["document", "encoded"]

_JSON: Final = "application/json"
_REF: Final = "#/components/schemas/{name}"
_ADMIN_STATUSES: Final = frozenset({403})
_DESCRIPTION: Final = """\
OpenAI's API for chat and speech over NeevAI's models, and LiteLLM's admin API for keys, teams and spend.

Other LLM routes (`/v1/messages`, `/v1/responses`, `/v1/embeddings`, ...) are LiteLLM's, reached through this gateway
with the same keys; its own documentation describes them. Every error has one shape. Amounts of money are told in USD
and, exactly, in nano-USD."""


def encoded(version: str, *, indent: int = 1) -> bytes:
    """Return the document as JSON.

    Args:
        version: of the product.
        indent: blanks for each level; negative: none, and no lines.
    """
    return msgspec.json.format(msgspec.json.encode(document(version)), indent=indent) + b"\n"


def document(version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document.

    Args:
        version: of the product.
    """
    types = _types()
    named, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = dict(zip(map(repr, types), named, strict=True))
    responses, errors = failure_components()
    schemas = {name: _plain(schema) for name, schema in {**components, **errors}.items()}
    _complete(schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "NeevAI gateway", "version": version, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": "models"}, {"name": "admin"}, {"name": "health"}],
        "security": [{"key": []}],
        "paths": {
            **_model_paths(schema_of),
            **{path: _admin_path(path, route, schema_of) for path, route in ADMIN.items()},
            **_open_paths(schema_of),
        },
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of this gateway: sk-neev-...",
                }
            },
            "responses": responses,
            "schemas": dict(sorted(schemas.items())),
        },
    }


def _types() -> list[Any]:
    own = [
        *(ChatBody, SpeechBody, answers.ChatCompletion, answers.ChatCompletionChunk),
        *(answers.ModelEntry, answers.ModelList, answers.Health),
    ]
    admin = [kind for route in ADMIN.values() for kind in (route.body, route.answer) if kind is not None]
    return list({repr(kind): kind for kind in (*own, *admin)}.values())


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a type's schema without what only readers of the code care for."""
    plain = copy.deepcopy(dict(schema))
    if "description" in plain:
        plain["description"] = " ".join(plain["description"].split())
    return plain


def _complete(schemas: dict[str, Any]) -> None:
    """Add the rules that no type says."""
    family = CLIENT_FORBIDDEN_FAMILY
    anyones = {
        "allOf": [{"not": {"enum": sorted(CLIENT_FORBIDDEN_FIELDS)}}, {"not": {"pattern": family.pattern}}]
    }
    litellms = {name for name in LITELLM_ONLY_FIELDS if family.search(name)}
    for body, fields in (("ChatBody", ChatBody), ("SpeechBody", SpeechBody)):
        known = sorted(litellms.union(fields.__struct_fields__))
        schemas[body]["propertyNames"] = {"anyOf": [{"enum": known}, anyones]}
    schemas["Part"] |= {
        "if": {"properties": {"type": {"const": "text"}}},
        "then": {"required": ["type", "text"], "properties": {"text": {"type": "string"}}},
    }
    says = ("content", "function_call", "refusal", "audio")
    schemas["AssistantMessage"]["anyOf"] = [
        *({"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in says),
        {"required": ["tool_calls"], "properties": {"tool_calls": {"type": "array", "minItems": 1}}},
    ]
    forced = {"required": ["tool_choice"], "properties": {"tool_choice": {"type": "object"}}}
    schemas["KeysToRevoke"]["anyOf"] = [
        {"required": [name], "properties": {name: {"type": "array", "minItems": 1}}}
        for name in ("keys", "key_aliases")
    ]
    schemas["ChatBody"] |= {
        "if": forced,
        "then": {"required": ["tools"], "properties": {"tools": {"type": "array", "minItems": 1}}},
    }


def _model_paths(schema_of: Mapping[str, Any]) -> dict[str, Any]:
    chat = _content(_JSON, schema_of[repr(answers.ChatCompletion)])
    chat["text/event-stream"] = {
        "schema": {
            "type": "string",
            "contentMediaType": "text/event-stream",
            "description": "With `stream: true`: events whose data is a ChatCompletionChunk, then `data: [DONE]`.",
        }
    }
    audio = _content("audio/mpeg", {"type": "string", "format": "binary"})
    name = _parameter("path", "model", {"type": "string", "minLength": 1}, required=True)
    entry, entries = schema_of[repr(answers.ModelEntry)], schema_of[repr(answers.ModelList)]
    return {
        "/v1/chat/completions": {
            "post": _operation("models", "Answer a chat", chat, WITH_A_MODEL, body=schema_of[repr(ChatBody)])
        },
        "/v1/audio/speech": {
            "post": _operation(
                "models", "Speak a text", audio, WITH_A_MODEL, body=schema_of[repr(SpeechBody)]
            )
        },
        "/v1/models": {"get": _operation("models", "List models", _content(_JSON, entries), READ)},
        "/v1/models/{model}": {
            "get": _operation(
                "models", "Tell about a model", _content(_JSON, entry), READ | {404}, parameters=[name]
            )
        },
    }


def _admin_path(path: str, route: AdminOperation, schema_of: Mapping[str, Any]) -> dict[str, Any]:
    parameters = [
        _parameter("query", name, schema, required=True)
        if name in route.required
        else _parameter("query", name, _or_empty(schema), required=False)
        for name, schema in (route.query or {}).items()
    ]
    if "{key}" in path:
        named = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,200}$"}
        parameters.append(_parameter("path", "key", named, required=True))
    operation = _operation(
        "admin",
        route.summary,
        _content(_JSON, schema_of[repr(route.answer)]),
        (READ if route.body is None else WITH_A_BODY) | _ADMIN_STATUSES | route.statuses,
        body=None if route.body is None else schema_of[repr(route.body)],
        needs_body=route.needs_body,
        parameters=parameters,
    )
    return {route.method: operation}


def _open_paths(schema_of: Mapping[str, Any]) -> dict[str, Any]:
    """Return the paths that need no key."""
    health = _content(_JSON, schema_of[repr(answers.Health)])
    paths: dict[str, Any] = {}
    for path, told in (
        ("/healthz", "Tell whether this process works"),
        ("/readyz", "Tell whether requests should be sent here"),
    ):
        operation = _operation("health", told, health, frozenset({400, 408, 431}))
        operation["responses"]["503"] = {
            "description": "Not now",
            "headers": REQUEST_ID,
            "content": health,
        }
        paths[path] = {"get": {**operation, "security": []}}
    own = _operation(
        "health", "This document", _content(_JSON, {"type": "object"}), frozenset({400, 408, 431})
    )
    return {**paths, "/openapi.json": {"get": {**own, "security": []}}}


def _operation(
    tag: str,
    summary: str,
    content: Mapping[str, Any],
    statuses: Iterable[int],
    *,
    body: Mapping[str, Any] | None = None,
    needs_body: bool = True,
    parameters: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    told: dict[str, Any] = {"tags": [tag], "summary": summary}
    if parameters := list(parameters):
        told["parameters"] = parameters
    if body is not None:
        told["requestBody"] = {"required": needs_body, "content": {_JSON: {"schema": body}}}
    answer = {"description": "Done", "headers": REQUEST_ID, "content": content}
    told["responses"] = {"200": answer, **failures(statuses)}
    return told


def _content(media: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {media: {"schema": schema}}


def _or_empty(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of a parameter that counts as not given when it is empty."""
    return schema if schema == {"type": "string"} else {"anyOf": [schema, {"const": ""}]}


def _parameter(place: str, name: str, schema: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}

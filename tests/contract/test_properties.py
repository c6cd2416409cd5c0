"""Properties that hold for every body: what passes is valid by an independent statement of the rules, and only that."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neev_provider.contract import parse_chat, parse_chat_object, parse_speech
from neev_provider.errors import RequestError

settings.register_profile(
    "contract",
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
EXAMPLES = settings.get_profile("contract")

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 200)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(-3, 5)
    | text
)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=4), max_leaves=8
)


def maybe(value):
    return st.none() | value


# ---------------------------------------------------------------- valid requests

parts = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": text})
    | st.fixed_dictionaries({"type": st.just("image_url"), "image_url": anything}),
    min_size=1,
    max_size=3,
)
content = text | parts
arguments = st.sampled_from(["{}", '{"a": 1}', "", "{", "nope", "[1]", "null"]) | text
calls = st.lists(
    st.fixed_dictionaries(
        {
            "id": text,
            "function": st.fixed_dictionaries(
                {"name": text.filter(bool)}, optional={"arguments": maybe(arguments)}
            ),
        },
        optional={"type": st.just("function"), "index": st.integers(0, 3)},
    ),
    min_size=1,
    max_size=3,
)
extra = {"name": maybe(text), "x": anything}
message = (
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user"]), "content": content}, optional=extra
    )
    | st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": content}, optional={**extra, "tool_calls": maybe(calls)}
    )
    | st.fixed_dictionaries(
        {"role": st.just("assistant"), "tool_calls": calls}, optional={**extra, "content": maybe(content)}
    )
    | st.fixed_dictionaries(
        {"content": content, "tool_call_id": text, "role": st.just("tool")}, optional=extra
    )
)
tool = st.fixed_dictionaries(
    {
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {"name": st.sampled_from(["look", "fly"])},
            optional={"parameters": maybe(st.just({"type": "object"}))},
        ),
    }
)
OPTIONAL = {
    "temperature": st.floats(0, 2) | st.integers(0, 2),
    "top_p": st.floats(0, 1) | st.integers(0, 1),
    "n": st.integers(1, 128),
    "stream": st.booleans(),
    "stop": text | st.lists(text, max_size=4),
    "max_tokens": st.integers(1, 2**31 - 1),
    "max_completion_tokens": st.integers(1, 2**31 - 1),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2) | st.integers(-2, 2),
    "response_format": st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "json_object", "json_schema"])}, optional={"json_schema": anything}
    ),
    "tools": st.lists(tool, max_size=3),
    "tool_choice": st.sampled_from(["none", "auto", "required"]),
    "stream_options": st.fixed_dictionaries(
        {}, optional={"include_usage": maybe(st.booleans()), "other": anything}
    ),
}
requests = st.fixed_dictionaries(
    {"model": text.filter(bool), "messages": st.lists(message, min_size=1, max_size=4)},
    optional={
        **{name: maybe(value) for name, value in OPTIONAL.items()},
        **dict.fromkeys(("user", "seed", "logprobs", "noch ein Feld"), anything),
    },
)


@st.composite
def near_misses(draw):
    """Return a valid request in which something, somewhere, was replaced or removed."""
    request = draw(requests)
    holder, key = request, draw(st.sampled_from(["messages", *OPTIONAL, "messages", "model"]))
    while True:
        inner = holder.get(key) if isinstance(holder, dict) else holder[key]
        if not inner or not isinstance(inner, dict | list) or draw(st.booleans()):
            break
        holder = inner
        key = draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
    if isinstance(holder, dict) and draw(st.integers(0, 3)) == 0:
        holder.pop(key, None)
    else:
        holder[key] = draw(
            anything | st.sampled_from(["function", "tool", "any", {"function": {"name": "look"}}, [], {}])
        )
    return request


# ---------------------------------------------------------------- the rules once more, in plain Python


def is_number(value, low, high):
    return type(value) in {int, float} and low <= value <= high


def is_integer(value, low, high):
    return type(value) is int and low <= value <= high


def is_content(value):
    return isinstance(value, str) or (
        isinstance(value, list)
        and len(value) > 0
        and all(
            isinstance(part, dict)
            and isinstance(part.get("type"), str)
            and part["type"] != ""
            and (part.get("text") is None or isinstance(part["text"], str))
            and (part["type"] != "text" or part.get("text") is not None)
            for part in value
        )
    )


def is_optional(kind, value):
    return value is None or isinstance(value, kind)


def is_call(call):
    return (
        isinstance(call, dict)
        and isinstance(call.get("id"), str)
        and call.get("type") in (None, "function")
        and isinstance(call.get("function"), dict)
        and isinstance(call["function"].get("name"), str)
        and call["function"]["name"] != ""
        and is_optional(str, call["function"].get("arguments"))
    )


def is_message(message):
    if not isinstance(message, dict) or not is_optional(str, message.get("name")):
        return False
    role, content = message.get("role"), message.get("content")
    if role in ("system", "developer", "user"):
        return is_content(content)
    if role == "tool":
        return is_content(content) and isinstance(message.get("tool_call_id"), str)
    if role != "assistant":
        return False
    calls = message.get("tool_calls")
    others = [message.get(name) for name in ("function_call", "refusal", "audio")]
    return (
        (content is None or is_content(content))
        and (calls is None or (isinstance(calls, list) and all(map(is_call, calls))))
        and all(is_optional(kind, one) for kind, one in zip((dict, str, dict), others, strict=True))
        and (content is not None or bool(calls) or any(one is not None for one in others))
    )


def is_tool(tool):
    function = tool.get("function") if isinstance(tool, dict) else None
    return (
        isinstance(function, dict)
        and tool.get("type") == "function"
        and isinstance(function.get("name"), str)
        and function["name"] != ""
        and is_optional(str, function.get("description"))
        and is_optional(dict, function.get("parameters"))
    )


def is_choice(choice, tools):
    if isinstance(choice, str):
        return choice in {"none", "auto", "required"}
    return (
        isinstance(choice, dict)
        and choice.get("type") in (None, "function")
        and isinstance(choice.get("function"), dict)
        and choice["function"].get("name") in [tool["function"]["name"] for tool in tools or ()]
    )


RULES = {
    "temperature": lambda value, _: is_number(value, 0, 2),
    "top_p": lambda value, _: is_number(value, 0, 1),
    "n": lambda value, _: is_integer(value, 1, 128),
    "stream": lambda value, _: isinstance(value, bool),
    "stop": lambda value, _: (
        isinstance(value, str)
        or (isinstance(value, list) and len(value) <= 4 and all(isinstance(s, str) for s in value))
    ),
    "max_tokens": lambda value, _: is_integer(value, 1, 2**31 - 1),
    "max_completion_tokens": lambda value, _: is_integer(value, 1, 2**31 - 1),
    "presence_penalty": lambda value, _: is_number(value, -2, 2),
    "frequency_penalty": lambda value, _: is_number(value, -2, 2),
    "response_format": lambda value, _: (
        isinstance(value, dict) and value.get("type") in ("text", "json_object", "json_schema")
    ),
    "tools": lambda value, _: isinstance(value, list) and all(map(is_tool, value)),
    "tool_choice": lambda value, body: is_choice(value, body.get("tools")),
    "stream_options": lambda value, _: (
        isinstance(value, dict) and is_optional(bool, value.get("include_usage"))
    ),
}


def is_valid(body):
    return (
        isinstance(body, dict)
        and isinstance(body.get("model"), str)
        and 0 < len(body["model"]) <= 256
        and isinstance(body.get("messages"), list)
        and len(body["messages"]) > 0
        and all(map(is_message, body["messages"]))
        and all(body.get(name) is None or rule(body[name], body) for name, rule in RULES.items())
    )


# ---------------------------------------------------------------- properties


def accepted(parse, body):
    """Return the request, or None if it was refused as it should be."""
    try:
        return parse(body)
    except RequestError as caught:
        error = caught
    assert error.status == 400
    assert error.message.endswith(".")
    assert len(error.encode()) < 1000
    return None


def loads(body):
    return json.loads(body, parse_int=lambda digits: digits if len(digits) > 4000 else int(digits))


@EXAMPLES
@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_a_request_error(body):
    assert accepted(parse_chat, body) is None
    assert accepted(parse_speech, body) is None


@EXAMPLES
@given(requests, st.data())
def test_damaged_bytes_give_a_request_error_or_reach_upstream_as_json(fields, data):
    body = bytearray(json.dumps(fields, ensure_ascii=data.draw(st.booleans())).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"\\ud800", b"[", b"1e9", b"\xff"])
        )
    request = accepted(parse_chat, bytes(body))
    if request is not None:
        loads(request.encode(model="up", include_usage=True))


@EXAMPLES
@given(anything)
def test_arbitrary_json_gives_a_request_error(value):
    body = json.dumps(value).encode()
    assert accepted(parse_chat, body) is None
    assert accepted(parse_speech, body) is None


@EXAMPLES
@given(requests)
def test_every_valid_request_is_accepted(fields):
    assert is_valid(fields)
    request = parse_chat(json.dumps(fields).encode())
    assert request.model == fields["model"]
    assert request.max_tokens == (fields.get("max_completion_tokens") or fields.get("max_tokens"))
    assert request.n == (fields.get("n") or 1)


@settings(EXAMPLES, max_examples=600)
@given(near_misses())
def test_what_is_accepted_is_what_the_rules_allow(fields):
    assert (accepted(parse_chat, json.dumps(fields).encode()) is not None) == is_valid(fields)


@EXAMPLES
@given(near_misses())
def test_python_objects_are_judged_as_their_bytes_are(fields):
    by_bytes = accepted(parse_chat, json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode())
    by_objects = accepted(parse_chat_object, fields)
    assert (by_bytes is None) == (by_objects is None)
    if by_bytes is not None:
        assert by_bytes.encode(model="up") == by_objects.encode(model="up")


UNTOUCHED = ("temperature", "top_p", "n", "stop", "tools", "response_format", "user", "seed", "noch ein Feld")
FORMS = [
    json.dumps,
    lambda value: json.dumps(value, ensure_ascii=False),
    lambda value: json.dumps(value, indent=1),
    lambda value: json.dumps(value, separators=(" , ", "\t:\n")),
]


@EXAMPLES
@given(requests, st.data())
def test_every_untouched_field_keeps_its_bytes_and_its_place(fields, data):
    forms = {name: data.draw(st.sampled_from(FORMS))(value) for name, value in fields.items()}
    padding = data.draw(st.sampled_from(["", " ", "\r\n\t"]))
    body = ",".join(
        f"{padding}{json.dumps(name)}{padding}:{padding}{form}{padding}" for name, form in forms.items()
    )
    sent = parse_chat(f"{{{body}}}".encode()).encode(model="up", include_usage=data.draw(st.booleans()))
    for name in UNTOUCHED:
        if name in forms:
            assert f"{json.dumps(name)}:{forms[name]}".encode() in sent
    assert [name for name in loads(sent) if name in UNTOUCHED] == [
        name for name in fields if name in UNTOUCHED
    ]


@EXAMPLES
@given(requests)
def test_what_is_sent_differs_from_what_came_by_the_adaptation_only(fields):
    sent = loads(parse_chat(json.dumps(fields).encode()).encode(model="up"))
    expected = json.loads(json.dumps(fields))
    expected["model"] = "up"
    if "max_completion_tokens" in expected:
        limit = expected.pop("max_completion_tokens")
        if limit is not None:
            expected["max_tokens"] = limit
    if expected.get("stream"):
        options = expected.pop("stream_options", None) or {}
        options.pop("include_usage", None)
        if options:
            expected["stream_options"] = options
    for message in expected["messages"]:
        if message["role"] == "developer":
            message["role"] = "system"
        for call in (message["role"] == "assistant" and message.get("tool_calls")) or ():
            try:
                loads_strictly(call["function"].get("arguments") or "")
            except ValueError:
                call["function"]["arguments"] = "{}"
    assert sent == expected


def loads_strictly(body):
    def refuse(name):
        raise ValueError(name)

    return json.loads(body, parse_constant=refuse)


@EXAMPLES
@given(requests, st.booleans(), st.none() | st.integers(1, 9))
def test_what_was_sent_once_is_sent_unchanged_the_second_time(fields, include_usage, max_tokens):
    how = {"model": "up", "include_usage": include_usage, "max_tokens": max_tokens}
    sent = parse_chat(json.dumps(fields).encode()).encode(**how)
    again = parse_chat(sent)
    assert again.encode(**how) == sent
    assert is_valid(loads(sent))


NULLABLE = {"speed", "response_format"}


@EXAMPLES
@given(
    st.fixed_dictionaries(
        {"model": anything | text, "voice": anything | text, "input": anything | text},
        optional={
            "speed": anything | st.floats(0, 5),
            "response_format": anything | st.just("mp3"),
            "x": anything,
        },
    )
)
def test_speech_accepts_what_the_rules_allow(fields):
    allowed = (
        all(isinstance(fields[name], str) and fields[name] for name in ("model", "voice", "input"))
        and (fields.get("speed") is None or is_number(fields["speed"], 0.25, 4))
        and fields.get("response_format") in (None, "mp3")
    )
    request = accepted(parse_speech, json.dumps(fields).encode())
    assert (request is not None) == allowed
    if request is not None:
        # Nulls say nothing, which upstream need not know.
        told = {name: value for name, value in fields.items() if not (name in NULLABLE and value is None)}
        assert loads(request.encode(model="up")) == {**told, "model": "up"}
        assert request.characters == len(fields["input"])

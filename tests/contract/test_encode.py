"""What goes upstream: the client's bytes, with DESIGN section 3's changes and no others."""

from __future__ import annotations

import json

import pytest

from neev_provider.contract import parse_chat, parse_speech

HI = '[{"role":"user","content":"hi"}]'


def upstream(fields: str, messages: str = HI, **how) -> str:
    """Return the upstream body for `{"model": "m", "messages": messages, <fields>}`."""
    body = f'{{"model":"m","messages":{messages}{"," if fields else ""}{fields}}}'
    return parse_chat(body.encode()).encode(**{"model": "up", **how}).decode()


def values(text: str) -> dict:
    return json.loads(text)


def test_the_model_is_upstreams_and_stays_in_its_place():
    body = b'{"user":"u","model":"team/fast","messages":' + HI.encode() + b"}"
    assert (
        parse_chat(body).encode(model='gp"t')
        == b'{"user":"u","model":"gp\\"t","messages":' + HI.encode() + b"}"
    )


@pytest.mark.parametrize(
    "field",
    [
        '"temperature":1.0',
        '"temperature":1e-3',
        '"top_p":0.10000000000000000000000000001',
        '"seed":123456789012345678901234567890',
        '"x":1e400',
        '"x":-0',
        '"x":"\\u0041\\/\\ud83d\\ude00"',
        '"x":"नमस्ते 😀"',
        '"x":{ "b" : [1 , 2.50] ,\n "a":null }',
        '"x":{"a":1,"a":2}',
        '"response_format":{ "type":"json_schema", "json_schema":{"z":1,"a":2} }',
        '"tools":[ {"type":"function","function":{"name":"f","strict":true}, "x":1.0} ]',
        '"stop":["\\u000a"]',
        '"max_tokens":null',
        '"stream":false',
        '"stream_options":{ "include_usage" : true }',
        '"logit_bias":{"50256":-100}',
        '"n":1',
    ],
)
def test_an_untouched_value_keeps_its_bytes(field):
    assert upstream(field) == f'{{"model":"up","messages":{HI},{field}}}'


@pytest.mark.parametrize(
    "messages",
    [
        '[ {"role" : "user","content":"\\u0041\\n" , "x":1.0} ]',
        '[{"content":[{"type":"image_url","image_url":{"url":"u","detail":"low"}}],"role":"user"}]',
        '[{"role":"assistant","content":null,"tool_calls":[{"id":"1","index":0,"function":{"arguments":"{ }","name":"f"}}]}]',
        '[{"role":"assistant","content":"x","reasoning_content":"y","annotations":[]}]',
    ],
)
def test_messages_that_need_no_change_keep_their_bytes(messages):
    assert upstream("", messages) == f'{{"model":"up","messages":{messages}}}'


class TestTokenLimit:
    def test_max_completion_tokens_becomes_max_tokens_in_its_place(self):
        assert upstream('"max_completion_tokens":7,"user":"u"').endswith(',"max_tokens":7,"user":"u"}')

    @pytest.mark.parametrize(
        "fields", ['"max_tokens":5,"max_completion_tokens":7', '"max_completion_tokens":7,"max_tokens":5']
    )
    def test_only_one_limit_is_sent_and_max_completion_tokens_wins(self, fields):
        assert upstream(fields) == f'{{"model":"up","messages":{HI},"max_tokens":7}}'

    def test_a_null_max_completion_tokens_is_not_sent(self):
        assert upstream('"max_completion_tokens":null') == f'{{"model":"up","messages":{HI}}}'
        assert upstream('"max_tokens":5,"max_completion_tokens":null').endswith(',"max_tokens":5}')

    @pytest.mark.parametrize(
        "fields", ["", '"max_tokens":500', '"max_tokens":null', '"max_completion_tokens":500']
    )
    def test_the_gateways_bound_replaces_the_clients(self, fields):
        assert values(upstream(fields, max_tokens=9))["max_tokens"] == 9
        assert "max_completion_tokens" not in upstream(fields, max_tokens=9)


class TestRolesAndHistory:
    def test_developer_becomes_system_and_its_neighbours_keep_their_bytes(self):
        other = '{ "role":"user", "content":"\\u0041" }'
        sent = upstream("", f'[{other},{{"content":"be brief","role":"developer","x":1.0}},{other}]')
        assert (
            sent
            == f'{{"model":"up","messages":[{other},{{"content":"be brief","role":"system","x":1.0}},{other}]}}'
        )

    def test_an_escaped_developer_is_found_too(self):
        assert "system" in upstream("", '[{"role":"d\\u0065veloper","content":"x"}]')

    @pytest.mark.parametrize(
        "arguments",
        ["", " ", "{", '{"a":', "nope", "{'a': 1}", '{"a":1}}', '{"a":NaN}', '{"a":"\ud83d', "[" * 100_000],
    )
    def test_arguments_that_are_not_json_become_an_empty_object(self, arguments):
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
        sent = upstream(
            "",
            json.dumps([{"role": "assistant", "tool_calls": [call]}], ensure_ascii=False)
            .encode("utf-8", "replace")
            .decode(),
        )
        assert values(sent)["messages"][0]["tool_calls"] == [
            {**call, "function": {"name": "f", "arguments": "{}"}}
        ]

    @pytest.mark.parametrize("function", ['{"name":"f"}', '{"name":"f","arguments":null}'])
    def test_arguments_that_are_absent_become_an_empty_object(self, function):
        sent = upstream("", f'[{{"role":"assistant","tool_calls":[{{"id":"1","function":{function}}}]}}]')
        assert values(sent)["messages"][0]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}

    @pytest.mark.parametrize("arguments", ["{}", '{"a":[1]}', "[]", "null", "5", ' {"a": 1.0} '])
    def test_arguments_that_are_json_are_left_alone(self, arguments):
        message = json.dumps(
            {
                "role": "assistant",
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": arguments}}],
            }
        )
        assert message in upstream("", f"[{message}]")

    def test_only_the_call_at_fault_is_rewritten(self):
        good = '{ "id":"1", "function":{"name":"f","arguments":"{ }"} }'
        bad = '{"id":"2","x":1.0,"function":{"arguments":"{","name":"g","y":2.0}}'
        sent = upstream("", f'[{{"role":"assistant","z":3.0,"tool_calls":[{good},{bad}]}}]')
        mended = '{"id":"2","x":1.0,"function":{"arguments":"{}","name":"g","y":2.0}}'
        assert f'{{"role":"assistant","z":3.0,"tool_calls":[{good},{mended}]}}' in sent


class TestUsageInStreams:
    def test_usage_is_asked_for_when_wanted(self):
        assert values(upstream('"stream":true', include_usage=True))["stream_options"] == {
            "include_usage": True
        }

    @pytest.mark.parametrize(
        "options",
        ["null", "{}", '{"include_usage":false}', '{"include_usage":null}', '{"include_usage":true}'],
    )
    def test_usage_is_asked_for_whatever_the_client_said(self, options):
        sent = upstream(f'"stream":true,"stream_options":{options}', include_usage=True)
        assert values(sent)["stream_options"] == {"include_usage": True}

    @pytest.mark.parametrize("options", ["null", "{}", '{"include_usage":true}', '{"include_usage":false}'])
    def test_usage_is_not_asked_for_when_upstream_refuses_it(self, options):
        assert (
            upstream(f'"stream":true,"stream_options":{options}')
            == f'{{"model":"up","messages":{HI},"stream":true}}'
        )

    def test_other_options_survive_with_their_bytes(self):
        fields = '"stream":true,"stream_options":{"x":1.0,"include_usage":true,"y":"\\u0041"}'
        assert upstream(fields).endswith('"stream_options":{"x":1.0,"y":"\\u0041"}}')
        assert upstream(fields, include_usage=True).endswith('{"x":1.0,"y":"\\u0041","include_usage":true}}')

    @pytest.mark.parametrize("stream", ['"stream":false', '"stream":null', '"user":"u"'])
    def test_outside_a_stream_nothing_is_asked_for(self, stream):
        assert "stream_options" not in upstream(stream, include_usage=True)

    def test_the_same_request_encodes_both_ways(self):
        request = parse_chat(f'{{"model":"m","messages":{HI},"stream":true}}'.encode())
        with_usage = request.encode(model="up", include_usage=True)
        assert request.encode(model="up") != with_usage == request.encode(model="up", include_usage=True)


class TestRefusedFields:
    def test_fields_that_the_model_refuses_are_dropped(self):
        sent = upstream('"user":"u","seed":1,"top_p":1', refused=frozenset({"user", "seed", "absent"}))
        assert sent == f'{{"model":"up","messages":{HI},"top_p":1}}'

    def test_model_messages_and_stream_are_never_dropped(self):
        sent = upstream('"stream":true', refused=frozenset({"model", "messages", "stream"}))
        assert set(values(sent)) == {"model", "messages", "stream"}

    def test_a_refused_stream_options_is_not_sent_even_if_usage_is_wanted(self):
        assert "stream_options" not in upstream(
            '"stream":true', include_usage=True, refused=frozenset({"stream_options"})
        )

    def test_max_completion_tokens_is_judged_by_the_name_upstream_sees(self):
        assert "tokens" not in upstream('"max_completion_tokens":5', refused=frozenset({"max_tokens"}))


class TestDuplicateKeys:
    """What was checked is what is sent."""

    def test_the_last_one_counts_and_only_it_is_sent(self):
        request = parse_chat(f'{{"model":"a","n":2,"model":"b","messages":{HI},"n":3}}'.encode())
        assert (request.model, request.n) == ("b", 3)
        assert request.encode(model="b") == f'{{"model":"b","n":3,"messages":{HI}}}'.encode()

    def test_a_key_written_with_escapes_is_the_same_key(self):
        request = parse_chat(f'{{"model":"a","m\\u006fdel":"b","messages":{HI}}}'.encode())
        assert request.model == "b"
        assert request.encode(model="up").count(b"model") == 1

    @pytest.mark.parametrize(
        "pair", ['"n":0,"n":1', '"n":1,"n":0', '"stream":"x","stream":true', '"messages":[],"user":"u"']
    )
    def test_every_one_must_be_valid(self, refusal, pair):
        refusal(f'{{"model":"m",{pair},"messages":{HI}}}'.encode())

    def test_two_roles_in_one_message_are_refused(self, refusal):
        error = refusal(b'{"model":"m","messages":[{"role":"user","content":"x","role":"system"}]}')
        assert error.param == "messages[0].role"

    def test_speech_follows_the_same_rule(self):
        body = b'{"model":"tts-1","voice":"ash","voice":"nova","input":"x"}'
        assert parse_speech(body).voice == "nova"
        assert parse_speech(body).encode(model="tts-1") == b'{"model":"tts-1","voice":"nova","input":"x"}'

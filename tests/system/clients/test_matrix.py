"""Each client against a running gateway: what its user sees, and how often it really asked."""

from __future__ import annotations

import pytest

from tests.system.clients.conftest import RETRY_AFTER
from tests.system.clients.matrix import CLIENTS, Client

pytestmark = pytest.mark.system

WORDS = {
    "bad_request": "must be",
    "wrong_key": "The API key is not known here.",
    "over_budget": "This key's budget of $0.0000001 does not cover this request",
    "unknown_model": "no-such-model",
    "gave_up": "The model provider answered with status 503.",
}
LIBRARIES = [client for client in CLIENTS if client.name != "aider"]
every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
every_library = pytest.mark.parametrize("client", LIBRARIES, ids=lambda client: client.name)


@every_client
def test_the_client_is_the_locked_one(client: Client, saw):
    assert saw(client).seen["version"] == client.version


class TestAnswers:
    @every_library
    def test_chat_gives_the_text(self, client: Client, saw):
        assert saw(client).seen["chat"] == "one two three"

    @every_library
    def test_a_stream_arrives_piece_by_piece(self, client: Client, saw):
        assert saw(client).seen["stream"] == ["alpha", " beta", " gamma"]

    @every_library
    def test_a_tool_call_has_its_name_and_arguments(self, client: Client, saw):
        tool = saw(client).seen["tool"]
        assert tool["name"] == "get_weather"
        assert tool["arguments"] == {"city": "What is the weather in Pune?"}

    @pytest.mark.parametrize(
        "client", [one for one in CLIENTS if one.tools == "calls them"], ids=lambda client: client.name
    )
    def test_the_tools_result_is_sent_and_answered(self, client: Client, saw):
        assert saw(client).seen["tool"]["then"] == "What is the weather in Pune?"
        roles = [
            [message["role"] for message in one["body"]["messages"]] for one in saw(client).attempts("tool")
        ]
        assert roles == [["user"], ["user", "assistant", "tool"]]


class TestErrors:
    @pytest.mark.parametrize("case", WORDS)
    @every_library
    def test_an_error_has_its_class_status_and_text(self, client: Client, case: str, saw):
        error = saw(client).seen[case]
        assert error["class"] == client.errors[case]
        assert error["status"] == client.statuses.get(case)
        assert WORDS[case] in error["says"]

    @every_library
    def test_a_stream_that_breaks_is_an_error_after_what_has_arrived(self, client: Client, saw):
        error = saw(client).seen["broken_stream"]
        assert error["class"] == client.errors["broken_stream"]
        assert "The model stopped working." in error["says"]
        assert [piece.strip() for piece in error["pieces"]] == ["alpha", "beta"]

    @every_library
    def test_a_broken_stream_is_not_asked_for_again(self, client: Client, saw):
        assert len(saw(client).attempts("broken_stream")) == 1


class TestRetries:
    @every_client
    def test_a_passing_failure_is_not_seen_at_all(self, client: Client, saw):
        assert "back again" in saw(client).seen["retried"]
        assert [one["status"] for one in saw(client).attempts("retried")] == [503, 200]

    @every_client
    def test_the_client_waits_as_long_as_retry_after_says(self, client: Client, saw):
        assert "back later" in saw(client).seen["waited"]
        first, second = saw(client).attempts("waited")
        assert (first["status"], second["status"]) == (429, 200)
        assert second["time"] - first["time"] >= RETRY_AFTER - 0.1

    @every_library
    def test_a_lasting_failure_is_given_up_after_the_documented_attempts(self, client: Client, saw):
        assert len(saw(client).attempts("gave_up")) == client.calls

    @every_library
    def test_a_budget_that_is_used_up_is_not_waited_for(self, client: Client, saw):
        assert saw(client).over_budget == client.calls_over_budget


class TestAider:
    @pytest.fixture
    def seen(self, saw) -> dict:
        return saw(next(client for client in CLIENTS if client.name == "aider")).seen

    def test_chat_prints_the_answer(self, seen):
        assert "one two three" in seen["chat"]

    def test_an_edit_is_applied(self, seen):
        assert seen["edit"] == "hello from the gateway\n"

    @pytest.mark.parametrize("case", ["wrong_key", "unknown_model"])
    def test_an_error_is_printed(self, seen, case):
        assert WORDS[case] in seen[case]["says"]

    def test_a_refusal_is_not_repeated(self, seen):
        assert "Retrying" not in seen["bad_request"]["says"]
        assert "litellm.BadRequestError" in seen["bad_request"]["says"]

    def test_a_stream_that_breaks_is_asked_for_again(self, seen):
        said = seen["broken_stream"]
        assert "The model provider reported an error." in " ".join(said.split())
        assert "alpha beta gamma delta" in said.partition("Retrying in")[2]

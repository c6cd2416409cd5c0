"""Official clients through the running proxy: the openai package (version 3), anthropic, curl."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess

import pytest
import soundfile

from tests.proxy.serving import ROOT, Served

CLIENTS = ROOT / ".venv-clients" / "bin" / "python"


def run_client(served: Served, name: str, *words: str) -> dict:
    done = subprocess.run(
        [CLIENTS, ROOT / "tests" / "proxy" / "clients" / name, *words],
        capture_output=True,
        text=True,
        timeout=110,
        env={
            "PATH": os.environ["PATH"],
            "OPENAI_BASE_URL": served.base_url,
            "OPENAI_API_KEY": served.key,
            "GATEWAY_ROOT_URL": served.root_url,
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def speech_file(tmp_path_factory):
    return tmp_path_factory.mktemp("speech") / "hello.mp3"


@pytest.fixture(scope="module")
def openai_saw(served, speech_file):
    return run_client(served, "openai_client.py", str(speech_file))


@pytest.fixture(scope="module")
def anthropic_saw(served):
    return run_client(served, "anthropic_client.py")


class TestOpenAI:
    def test_the_client_is_version_3(self, openai_saw):
        assert openai_saw["version"].startswith("3.")

    def test_chat(self, openai_saw):
        chat = openai_saw["chat"]
        assert chat["text"].strip()
        assert 1 <= chat["usage"]["completion_tokens"] <= 12
        assert chat["usage"]["prompt_tokens"] > 0
        assert chat["model"].endswith("gpt-oss-120b")

    def test_stream(self, openai_saw):
        stream = openai_saw["stream"]
        assert stream["text"].strip()
        assert stream["pieces"] > 1
        assert len(stream["finish"]) == 1
        assert len(stream["usage"]) == 1
        assert 1 <= stream["usage"][0]["completion_tokens"] <= 12

    def test_a_forced_tool_call_has_the_schemas_arguments(self, openai_saw):
        assert openai_saw["tools"]["name"] == "weather"
        assert isinstance(openai_saw["tools"]["arguments"]["city"], str)

    def test_json_mode_gives_a_json_object(self, openai_saw):
        assert isinstance(json.loads(openai_saw["json"]), dict)

    def test_models_are_listed_and_retrieved(self, openai_saw):
        assert {"gpt-oss-120b", "tts-1", "minimax-m2.7"} <= set(openai_saw["models"])
        assert openai_saw["retrieved"] == "gpt-oss-120b"

    def test_speech_is_a_playable_file_with_a_voice(self, openai_saw, speech_file):
        samples, rate = soundfile.read(io.BytesIO(speech_file.read_bytes()))
        assert len(samples) / rate > 0.5
        assert abs(samples).max() > 0.05

    def test_responses(self, openai_saw):
        assert openai_saw["responses"]["text"].strip()
        assert 1 <= openai_saw["responses"]["output_tokens"] <= 12

    def test_responses_streamed(self, openai_saw):
        assert openai_saw["responses_stream"]["text"].strip()
        assert openai_saw["responses_stream"]["last"] in {"response.completed", "response.incomplete"}

    def test_bad_input_names_the_field(self, openai_saw):
        assert openai_saw["bad_request"]["status"] == 400
        assert "temperature" in openai_saw["bad_request"]["message"]

    def test_a_wrong_key_is_refused(self, openai_saw):
        assert 400 <= openai_saw["wrong_key"] < 500


class TestAnthropic:
    def test_message(self, anthropic_saw):
        message = anthropic_saw["message"]
        assert message["text"].strip()
        assert 1 <= message["usage"]["output_tokens"] <= 12

    def test_stream(self, anthropic_saw):
        assert anthropic_saw["stream"]["text"].strip()
        assert anthropic_saw["stream"]["pieces"] > 1
        assert 1 <= anthropic_saw["stream"]["output_tokens"] <= 12

    def test_tools(self, anthropic_saw):
        assert anthropic_saw["tools"][0]["name"] == "weather"


class TestCurl:
    def curl(self, served, path: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        program = shutil.which("curl")
        assert program, "curl is missing: apt-get install curl"
        return subprocess.run(
            [
                *(program, "--silent", "--show-error", "--max-time", "60", served.root_url + path),
                *(
                    "--header",
                    f"Authorization: Bearer {served.key}",
                    "--header",
                    "Content-Type: application/json",
                ),
                *words,
            ],
            capture_output=True,
            check=True,
        )

    def test_a_stream_ends_with_done(self, served):
        body = {
            "model": "gpt-oss-120b",
            "stream": True,
            "max_tokens": 8,
            "messages": [{"role": "user", "content": "Hi"}],
        }
        lines = self.curl(
            served, "/v1/chat/completions", "--no-buffer", "--data", json.dumps(body)
        ).stdout.split(b"\n\n")
        assert [line for line in lines if line.strip()][-1] == b"data: [DONE]"
        assert all(json.loads(line.removeprefix(b"data: ")) for line in lines[:-2])

    def test_speech(self, served):
        body = {"model": "tts-1", "voice": "alloy", "input": "Hello."}
        audio = self.curl(served, "/v1/audio/speech", "--data", json.dumps(body)).stdout
        samples, _ = soundfile.read(io.BytesIO(audio))
        assert abs(samples).max() > 0.05

    def test_a_client_may_not_choose_the_host(self, served):
        body = {
            "model": "gpt-oss-120b",
            "messages": [{"role": "user", "content": "Hi"}],
            "api_base": "http://127.0.0.1:1",
        }
        answer = json.loads(self.curl(served, "/v1/chat/completions", "--data", json.dumps(body)).stdout)
        assert "api_base" in answer["error"]["message"]

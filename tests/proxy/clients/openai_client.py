"""Calls the gateway with the official openai package, version 3; prints what came back as JSON.

Run in `.venv-clients` with OPENAI_BASE_URL and OPENAI_API_KEY set, as users do.
"""

import json
import sys
import tempfile
from pathlib import Path

import openai
from openai import OpenAI

client = OpenAI(max_retries=0)
model = "gpt-oss-120b"
hello = [{"role": "user", "content": "Say hello."}]
tool = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
seen = {"version": openai.__version__}

chat = client.chat.completions.create(model=model, messages=hello, max_tokens=12)
seen["chat"] = {"text": chat.choices[0].message.content, "usage": chat.usage.to_dict(), "model": chat.model}

chunks = list(
    client.chat.completions.create(
        model=model, messages=hello, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
)
seen["stream"] = {
    "text": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
    "pieces": sum(1 for c in chunks if c.choices and c.choices[0].delta.content),
    "usage": [c.usage.to_dict() for c in chunks if c.usage],
    "finish": [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason],
}

called = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "What is the weather in Pune?"}],
    tools=[tool],
    tool_choice={"type": "function", "function": {"name": "weather"}},
    max_tokens=60,
)
function = called.choices[0].message.tool_calls[0].function
seen["tools"] = {"name": function.name, "arguments": json.loads(function.arguments)}

as_json = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Give me a JSON object with a name."}],
    temperature=0,
    response_format={"type": "json_object"},
    max_tokens=400,
)
seen["json"] = as_json.choices[0].message.content

seen["models"] = [m.id for m in client.models.list()]
seen["retrieved"] = client.models.retrieve(model).id

with tempfile.TemporaryDirectory() as folder:
    target = Path(folder) / "hello.mp3"
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input="Hello from the gateway."
    ) as speech:
        speech.stream_to_file(target)
    Path(sys.argv[1]).write_bytes(target.read_bytes())

response = client.responses.create(model=model, input="Say hello.", max_output_tokens=12)
seen["responses"] = {"text": response.output_text, "output_tokens": response.usage.output_tokens}
events = list(client.responses.create(model=model, input="Say hello.", max_output_tokens=12, stream=True))
seen["responses_stream"] = {
    "text": "".join(e.delta for e in events if e.type == "response.output_text.delta"),
    "last": events[-1].type,
}

try:
    client.chat.completions.create(model=model, messages=hello, temperature=3)
except openai.BadRequestError as error:
    seen["bad_request"] = {"status": error.status_code, "message": error.message, "param": error.param}
try:
    OpenAI(api_key="sk-wrong", max_retries=0).models.list()
except openai.APIStatusError as error:
    seen["wrong_key"] = error.status_code

print(json.dumps(seen))

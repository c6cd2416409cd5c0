"""Calls `/v1/messages` with the official anthropic package; prints what came back as JSON."""

import json
import os

from anthropic import Anthropic

client = Anthropic(
    base_url=os.environ["GATEWAY_ROOT_URL"],
    auth_token=os.environ["OPENAI_API_KEY"],
    api_key=None,
    max_retries=0,
)
hello = [{"role": "user", "content": "Say hello."}]
seen = {}

message = client.messages.create(model="gpt-oss-120b", max_tokens=12, messages=hello)
seen["message"] = {
    "text": message.content[0].text,
    "usage": message.usage.to_dict(),
    "stop": message.stop_reason,
}

with client.messages.stream(model="gpt-oss-120b", max_tokens=12, messages=hello) as stream:
    pieces = list(stream.text_stream)
    final = stream.get_final_message()
seen["stream"] = {"text": "".join(pieces), "pieces": len(pieces), "output_tokens": final.usage.output_tokens}

tool = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
called = client.messages.create(
    model="gpt-oss-120b",
    max_tokens=60,
    messages=[{"role": "user", "content": "Weather in Pune?"}],
    tools=[tool],
    tool_choice={"type": "tool", "name": "weather"},
)
seen["tools"] = [block.to_dict() for block in called.content if block.type == "tool_use"]

print(json.dumps(seen))

"""The request contract: OpenAI-format bytes in, checked and adapted NeevAI request out.

Responsible for what a request may hold (the ranges of `NEEV_API.md`), for the error that a wrong one gets, and for
the few changes that upstream needs. Not responsible for who may call what (`admission.py`), for which models exist
(`catalog.py`) or for sending (`upstream.py`). Called by every door, once per request, on the hot path.

    schema.py    bytes to top-level slices; typed checks; one error that names field and rule
    fields.py    tables: what a client may never choose, what only LiteLLM understands
    messages.py  the messages array: roles, content, tool-call history, and its adaptation
    sampling.py  how an answer is made: the values that all endpoints take, and their ranges
    chat.py      POST /v1/chat/completions
    speech.py    POST /v1/audio/speech
    other_routes.py  what LiteLLM turns into chat: completions, Anthropic's messages, responses

Every value that needs no change is kept as the slice of bytes that it came as, so that numbers, escapes, key order
and unknown fields reach upstream untouched. A top-level key that comes twice is sent once: the last one counts, in
the check and in what is sent, and the others must be valid too.
"""

from __future__ import annotations

from neev_provider.contract.chat import ChatBody, ChatRequest, parse_chat, parse_chat_object
from neev_provider.contract.fields import (
    CLIENT_FORBIDDEN_FAMILY,
    CLIENT_FORBIDDEN_FIELDS,
    FALLBACK_FIELDS,
    LITELLM_ONLY_FIELDS,
    fallback_fields,
    forbidden_field,
    refuse_forbidden,
    refuse_many_attempts,
)
from neev_provider.contract.other_routes import check_completion, check_messages_call, check_responses
from neev_provider.contract.schema import peek_model, read_fields
from neev_provider.contract.speech import (
    SpeechBody,
    SpeechRequest,
    billable_characters,
    looks_like_audio,
    parse_speech,
)

__all__ = [
    "CLIENT_FORBIDDEN_FAMILY",
    "CLIENT_FORBIDDEN_FIELDS",
    "FALLBACK_FIELDS",
    "LITELLM_ONLY_FIELDS",
    "ChatBody",
    "ChatRequest",
    "SpeechBody",
    "SpeechRequest",
    "billable_characters",
    "check_completion",
    "check_messages_call",
    "check_responses",
    "fallback_fields",
    "forbidden_field",
    "looks_like_audio",
    "parse_chat",
    "parse_chat_object",
    "parse_speech",
    "peek_model",
    "read_fields",
    "refuse_forbidden",
    "refuse_many_attempts",
]

"""Every fault of the emulator on every way through the gateway: what a client sees and what it pays, as data.

`ROWS` is the one list. `test_matrix.py` tries each of its cells; the table of `docs/reliability.md` is `table()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.faults.house import CHAT, SPEECH, chat, speech

MESSAGES = "/v1/messages"
TOKENS, PROMPT_TOKENS = 20, 5  # of every answer, as the emulator counts them
TIMEOUT = 2  # seconds, of the models that a stalling upstream is asked for
SLACK = 20  # seconds that a busy machine may add to any answer: what is checked is that nothing hangs


@dataclass(frozen=True)
class Outcome:
    """What comes of a request.

    Attributes:
        status: that the client sees.
        code: of the error body, or of the error that ends what had begun; "" if all is well.
        charge: `nothing`, `counted` (what the emulator counted) or `estimate` (marked as such).
        is_broken: whether the connection breaks off instead of telling an error.
        is_done: whether a stream ends as it should, with [DONE] or `message_stop`.
    """

    status: int = 200
    code: str = ""
    charge: str = "counted"
    is_broken: bool = False
    is_done: bool = True

    @property
    def text(self) -> str:
        """Return it as a cell of the table."""
        seen = f"{self.status}" + (f" `{self.code}`" if self.code else "")
        if self.status == 200 and self.code:
            seen = f"error `{self.code}` in the stream"
        if self.is_broken:
            seen = "cut off"
        elif self.status == 200 and not self.code and not self.is_done:
            seen += ", no `[DONE]`"
        return f"{seen}; {self.charge}"


def refused(status: int, code: str) -> Outcome:
    """Return an error in place of an answer: it costs nothing."""
    return Outcome(status, code, "nothing", is_done=False)


def ends(code: str) -> Outcome:
    """Return an answer that ends with an error: what came is charged by an estimate."""
    return Outcome(200, code, "estimate", is_done=False)


FINE = Outcome()
GUESSED = Outcome(charge="estimate")
ERROR, BAD, AUTH = (refused(502, f"upstream_{what}") for what in ("error", "bad_response", "auth_error"))
LIMITED, AWAY, LATE = refused(429, "upstream_rate_limited"), refused(503, "upstream_unavailable"), refused(504, "upstream_timeout")  # fmt: skip
INVALID, ODD, LONG = (refused(400, code) for code in ("invalid_value", "invalid_request", "context_length_exceeded"))  # fmt: skip
CUT = Outcome(is_broken=True)
SPOKEN = "LiteLLM, speech"
# Upstream refuses: LiteLLM's OpenAI client, which speaks, follows redirects.
FOLLOWED = ODD


@dataclass(frozen=True)
class Way:
    """One way through the gateway."""

    name: str
    path: str
    via: str
    is_stream: bool = False

    @property
    def kind(self) -> str:
        """Return the column of `Row` that holds for it."""
        return "spoken" if self.path == SPEECH else "streamed" if self.is_stream else "whole"

    def body(self, fault: str, model: str) -> dict:
        """Return a request whose first line asks the emulator for `fault`."""
        if self.path == SPEECH:
            made = speech("a" * 400, fault=fault) | {"speed": 1.0}
        else:
            # At a pace: what has come when a connection breaks must have been read.
            pace = ",rate=50" * self.is_stream
            echo = f"tokens={TOKENS},prompt-tokens={PROMPT_TOKENS}{pace}"
            made = chat(echo, fault=fault, model=model, stream=self.is_stream, temperature=1)
        # A field of LiteLLM's own hands a request over to it.
        return made | ({"tags": ["matrix"]} if self.via == "litellm" and self.path != MESSAGES else {})


WAYS = (
    Way("fast path, whole", CHAT, "fast"),
    Way("fast path, stream", CHAT, "fast", is_stream=True),
    Way("LiteLLM, whole", CHAT, "litellm"),
    Way("LiteLLM, stream", CHAT, "litellm", is_stream=True),
    Way("messages, whole", MESSAGES, "litellm"),
    Way("messages, stream", MESSAGES, "litellm", is_stream=True),
    Way("fast path, speech", SPEECH, "fast"),
    Way("LiteLLM, speech", SPEECH, "litellm"),
)


@dataclass(frozen=True)
class Row:
    """A fault, and what comes of it; None where it does not apply.

    Attributes:
        fault: as the emulator is asked for it.
        whole: of an answer in one piece.
        streamed: of a stream.
        spoken: of speech.
        but: ways that differ, by name.
        model: that is asked, for speech always `tts-1`.
    """

    fault: str
    whole: Outcome | None
    streamed: Outcome | None
    spoken: Outcome | None
    but: Mapping[str, Outcome] = field(default_factory=dict)
    model: str = "house"

    def outcome(self, way: Way) -> Outcome | None:
        return self.but.get(way.name, getattr(self, way.kind))


def every(fault: str, outcome: Outcome, **more: object) -> Row:
    """Return a row whose outcome is the same on every way."""
    return Row(fault, outcome, outcome, outcome, **more)


ROWS = (
    every("none", FINE),
    every("status=500", ERROR),
    every("status=503", ERROR),
    every("status=400", INVALID, but={SPOKEN: ODD}),
    every("status=401", AUTH),
    every("status=402", AUTH),
    every("status=429", LIMITED),
    *(every(f"shape={shape}", ERROR) for shape in ("openai", "string", "flat", "reason", "html", "empty")),
    every("retry-after=1", LIMITED),
    every("html", BAD),
    every("bad-json", BAD),
    every("empty-body", BAD),
    every("redirect", BAD, but={SPOKEN: FOLLOWED}),
    every("reset", AWAY),
    every("stall", LATE, model="hasty"),
    every("slow-first-byte=0.3", FINE),
    Row("context-length", LONG, LONG, None),
    Row("refuse-stream-options", FINE, GUESSED, None, model="gpt-oss-20b"),
    Row("refuse-field=temperature", ODD, ODD, None),
    Row("refuse-field=speed", None, None, ODD),
    Row("cut-after=0", BAD, ends("upstream_bad_response"), BAD, {
        SPOKEN: AWAY,
        "LiteLLM, stream": BAD,
        "messages, stream": Outcome(200, "upstream_bad_response", "nothing", is_done=False),
    }),
    Row("cut-after=1", BAD, ends("upstream_bad_response"), CUT, {SPOKEN: AWAY}),
    Row("cut-after=3", BAD, ends("upstream_bad_response"), None),
    Row("stall-after=1", LATE, ends("upstream_timeout"), CUT, {SPOKEN: LATE}, "hasty"),
    Row("stall-after=3", LATE, ends("upstream_timeout"), None, model="hasty"),
    Row("error-after=3", None, ends("upstream_error"), None),
    Row("bad-json-chunk=3", None, FINE, None, {
        "LiteLLM, stream": ends("upstream_bad_response"), "messages, stream": ends("upstream_bad_response"),
    }),
    Row("no-done", None, FINE, None, {"fast path, stream": Outcome(is_done=False)}),
    Row("odd-chunks", None, FINE, None),
    Row("split-bytes", None, FINE, None),
    Row("crlf", None, FINE, None),
    Row("null-content", FINE, FINE, None),
    Row("think", FINE, FINE, None),
    Row("think=unclosed", FINE, FINE, None),
    Row("no-usage", GUESSED, GUESSED, None),
    Row("cached-tokens=2", FINE, FINE, None),
    Row("empty-audio", None, None, BAD),
    Row("status=503,times=1", FINE, FINE, None, model="stubborn"),
    Row("reset,times=1", FINE, FINE, None, model="stubborn"),
)  # fmt: skip
CELLS = [(row, way, outcome) for row in ROWS for way in WAYS if (outcome := row.outcome(way)) is not None]


def table() -> list[str]:
    """Return the lines of the table in `docs/reliability.md`."""
    head = ["fault", *(way.name for way in WAYS)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in ROWS:
        cells = [outcome.text if (outcome := row.outcome(way)) else "-" for way in WAYS]
        lines.append("| " + " | ".join([f"`{row.fault}`", *cells]) + " |")
    return lines

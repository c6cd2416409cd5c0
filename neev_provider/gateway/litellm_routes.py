"""Which of LiteLLM's paths are let through, how they may be called, and which of a query goes along.

A path is matched as it was sent, undecoded, against characters that mean themselves: nothing encoded, no empty
segment, no dots, no parameters. So there is no second reading of it that could lead elsewhere, and what was matched
is what LiteLLM gets. Called by `litellm_path.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from neev_provider.errors import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["DEFAULT_ROUTES", "Route", "Routes", "passed_query"]

DEFAULT_ROUTES: Final = (
    *("/chat/completions", "/completions", "/embeddings", "/moderations", "/rerank", "/v2/rerank"),
    *("/audio/speech", "/audio/transcriptions", "/images/generations", "/images/edits"),
    *("/responses", "/responses/compact", "/responses/input_tokens"),
    *("/responses/*", "/responses/*/cancel", "/responses/*/input_items"),
    *("/messages", "/messages/count_tokens"),
    *("/engines/*/chat/completions", "/engines/*/completions", "/engines/*/embeddings"),
    *("/openai/deployments/*/chat/completions", "/openai/deployments/*/completions"),
    *("/openai/deployments/*/embeddings", "/openai/deployments/*/images/generations"),
    *("/openai/deployments/*/images/edits",),
)
"""What is let through unless the configuration says otherwise: LLM routes; each also behind `/v1`. Files, batches and
fine-tuning are left out: without a database LiteLLM cannot tell whose they are. So are its admin routes, its UI, its
documentation, `/health` (which calls every model), `/metrics` and the pass-through routes of vendors."""

_READ: Final = ("GET",)
_METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(DEFAULT_ROUTES, ("POST",)),
    "/responses/*": ("DELETE", "GET"),
    "/responses/*/input_items": _READ,
}
# Whoever adds a route means all of it.
_ANY: Final = ("DELETE", "GET", "PATCH", "POST", "PUT")
_BODILESS: Final = frozenset({"/responses/*/cancel"})
_SEGMENT: Final = r"[A-Za-z0-9_~:@=+-][A-Za-z0-9._~:@=+-]*"  # never "." or "..", nothing encoded

# Paging of what is read, and a vendor's choice of a stream's form. No other name goes along: LiteLLM lets a query's
# `model` win over the body's, which is the one that was checked, and Azure's clients always send an `api-version`,
# which is not theirs to choose here.
_QUERY: Final = frozenset(
    b"after alt before include include[] include_obfuscation limit order purpose starting_after stream".split()
)
_PAIR: Final = re.compile(rb"[A-Za-z0-9._~!$'()*+,;:@/?%\[\]=-]*")


class Route(NamedTuple):
    """One path or family of paths.

    Attributes:
        expression: matches the whole of a path.
        methods: how it may be called.
        bodiless: whether a POST may come without a body.
    """

    expression: re.Pattern[str]
    methods: tuple[str, ...]
    bodiless: bool
    name: str


class Routes:
    """What is let through.

    Args:
        patterns: paths, `*` for one segment; each also with `/v1` before it.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        names = [pattern.removeprefix("/v1") for pattern in patterns]
        # Those without a `*` first: /responses/compact is no response's id.
        self._routes: Final = [_route(name) for name in sorted(names, key=lambda name: "*" in name)]

    def find(self, path: str) -> Route | None:
        """Return the route of a path, or None if it is not let through.

        One that holds a key is not: LiteLLM's own log would show it.

        Args:
            path: as the client sent it, without the query, undecoded.
        """
        found = next((route for route in self._routes if route.expression.fullmatch(path)), None)
        return found if redact(path) == path else None


def passed_query(query: bytes, method: str) -> str:
    """Return what of a query goes along, as it was sent.

    Args:
        query: without the question mark.
        method: a POST's query says nothing that is not in its body, but to vendors' routes.
    """
    pairs = (pair for pair in query.split(b"&") if _PAIR.fullmatch(pair) and not _holds_a_key(pair))
    names = _QUERY - {b"stream"} if method == "POST" else _QUERY
    return b"&".join(pair for pair in pairs if unquote_to_bytes(pair.partition(b"=")[0]) in names).decode(
        "ascii"
    )


def _holds_a_key(pair: bytes) -> bool:
    text = unquote_to_bytes(pair).decode("latin-1")
    return redact(text) != text


def _route(name: str) -> Route:
    path = "".join(_SEGMENT if part == "*" else re.escape(part) for part in re.split(r"(\*)", name))
    return Route(re.compile(f"(?:/v1)?{path}"), _METHODS.get(name, _ANY), name in _BODILESS, "/v1" + name)

"""Which headers cross over to LiteLLM and back.

To LiteLLM everything goes but

* what belongs to one connection only (RFC 9110, 7.6.1), with what `Connection` names,
* credentials, in each of the headers in which LiteLLM looks for one: the one key that the gateway gives it stands in
  `authorization`, so that there is no second key that it could prefer,
* who the client says that it was forwarded for: the gateway knows,
* LiteLLM's own control headers: they choose teams, users, end users, agents, spend logs' contents, callbacks and
  whether messages are logged (`x-litellm-*`, `litellm-*`, `langfuse_*`), or reach through to the provider
  (`x-pass-*`) or to MCP servers (`x-mcp-*`). Some only shape the client's own call and are let through; those with
  numbers are checked, since LiteLLM answers 500 to what is none.

Back goes what a client can use. Keys' spend, provider's hosts and raw headers, deployment ids stay here. Called by
`litellm_path.py`.
"""

from __future__ import annotations

import contextlib
import math
import re
from typing import TYPE_CHECKING, Final

from neev_provider.admission.tickets import TICKET_HEADER
from neev_provider.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["client_headers", "litellm_headers"]

# Nothing is compressed on the way from LiteLLM: it is the same machine, and its errors are read here.
_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding"
    b" upgrade host content-length expect accept-encoding".split()
)
_CREDENTIALS: Final = frozenset(
    b"authorization x-api-key api-key x-goog-api-key ocp-apim-subscription-key litellm_user_api_key cookie".split()
)
_SENDER: Final = frozenset(
    b"forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port x-forwarded-prefix x-real-ip"
    b" x-original-url x-rewrite-url x-http-method-override x-request-id".split()
)
_DROPPED: Final = _HOP_BY_HOP | _CREDENTIALS | _SENDER
_CONTROL_PREFIXES: Final = (
    *(b"x-litellm-", b"x-pass-", b"x-mcp-", b"mcp-", b"x-neev-", b"litellm-", b"litellm_", b"langfuse_"),
    *(b"langfuse-",),
)
_SECONDS: Final = re.compile(rb"(?!0+(?:\.0+)?$)\d{1,5}(?:\.\d{1,3})?")
_ANYTHING: Final = re.compile(rb".*", re.DOTALL)
# Control headers that are let through, what they may say, and what is said of one that does not.
_CONTROLS: Final[Mapping[bytes, tuple[re.Pattern[bytes], str]]] = {
    b"x-litellm-timeout": (_SECONDS, "a number of seconds"),
    b"x-litellm-stream-timeout": (_SECONDS, "a number of seconds"),
    b"x-litellm-num-retries": (re.compile(rb"\d"), "an integer from 0 to 9"),
    b"x-litellm-tags": (_ANYTHING, ""),
    b"x-litellm-trace-id": (_ANYTHING, ""),
    b"x-litellm-session-id": (_ANYTHING, ""),
}

_SHOWN: Final = frozenset(
    {
        *("content-type", "content-length", "content-disposition", "content-encoding", "cache-control"),
        *(
            "x-accel-buffering",
            "retry-after",
            "x-litellm-call-id",
            "x-litellm-version",
            "x-litellm-model-group",
        ),
        *("x-litellm-response-cost", "x-litellm-cache-key", "x-litellm-attempted-retries"),
        *(
            "x-litellm-attempted-fallbacks",
            "x-litellm-response-duration-ms",
            "x-litellm-overhead-duration-ms",
        ),
        "x-litellm-applied-guardrails",
    }
)
_SHOWN_PREFIXES: Final = ("x-ratelimit-", "anthropic-")
_OURS: Final = "neev/"


def litellm_headers(
    given: Iterable[tuple[bytes, bytes]],
    *,
    authorization: bytes,
    request_id: bytes,
    client: str,
    scheme: str,
    length: int | None,
    ticket: str | None = None,
) -> list[tuple[str, str]]:
    """Return the request's headers as LiteLLM gets them.

    Args:
        given: the client's, lower-case names.
        authorization: the one credential, as the header's value.
        request_id: the gateway's.
        client: the client's address; "" if there is none.
        scheme: how the client came.
        length: of the body in bytes, if it is known.
        ticket: of the grant that LiteLLM's process is to take over, if there is one.

    Raises:
        RequestError: a control header holds nonsense.
    """
    given = list(given)
    named = {
        token.strip().lower() for name, value in given if name == b"connection" for token in value.split(b",")
    }
    headers = [
        (name, value)
        for name, value in given
        if name not in _DROPPED and name not in named and _passes(name, value)
    ]
    headers += [
        (b"authorization", authorization),
        (b"x-request-id", request_id),
        (b"accept-encoding", b"identity"),
    ]
    headers.append((b"x-forwarded-proto", scheme.encode()))
    if client:
        headers.append((b"x-forwarded-for", client.encode()))
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    if ticket is not None:
        headers.append((TICKET_HEADER.encode(), ticket.encode("latin-1", "replace")))
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _passes(name: bytes, value: bytes) -> bool:
    control = _CONTROLS.get(name)
    if control is None:
        return not name.startswith(_CONTROL_PREFIXES)
    form, said = control
    if not form.fullmatch(value):
        raise RequestError(
            "invalid_value", f"The header {name.decode()} must be {said}.", param=name.decode()
        )
    return True


def client_headers(given: Iterable[tuple[str, str]], *, framed_anew: bool) -> dict[bytes, bytes]:
    """Return an answer's headers as the client gets them.

    Args:
        given: LiteLLM's.
        framed_anew: whether the body's length may change on the way.
    """
    answered = {name.lower(): value for name, value in given}
    headers = {
        name.encode("latin-1"): value.encode("latin-1", "replace")
        for name, value in answered.items()
        if name in _SHOWN or name.startswith(_SHOWN_PREFIXES)
    }
    if framed_anew:
        headers.pop(b"content-length", None)
    model = answered.get("x-litellm-model-name", "")
    if model.startswith(_OURS):
        headers[b"x-neev-model"] = model.removeprefix(_OURS).encode("latin-1", "replace")
    with contextlib.suppress(KeyError, ValueError):
        cost = float(answered["x-litellm-response-cost"])
        if math.isfinite(cost) and cost >= 0:
            headers[b"x-neev-cost-usd"] = b"%.9f" % cost
    return headers

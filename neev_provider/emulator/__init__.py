"""A local NeevAI: the same API, offline, with real answers, the live service's defects and faults on demand.

`neev-gateway emulator` runs it, `create_app` embeds it, `testing` starts it inside a test suite. `docs/emulator.md`
is its manual. It plays the other side of the wire, so nothing here is used by the gateway, nor the other
way round, but for the catalog.

    command     the command line                    app         routes, authentication, the answer to everything else
    server      uvicorn around the app              chat        /v1/chat/completions;  stream  its SSE form
    testing     start one in a test suite           speech      /v1/audio/speech;      models  /v1/models
    validation  what NeevAI accepts                 control     /_emulator/...;        stats   what really happened
    faults      what can go wrong, as a table       fault_book  which request gets which fault
    quirks      what the live service gets wrong    engine      what an engine is: echo, local
"""

from __future__ import annotations

__all__: list[str] = []

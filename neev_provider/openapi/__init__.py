"""Our own OpenAPI document: what the gateway answers itself, generated from the types that it works with.

    document.py  puts it together
    admin.py     the admin routes' bodies, parameters and answers
    answers.py   the shapes of what is answered
    failures.py  every error by its status

Request bodies are the contract's own types, statuses and codes the table of `errors.py`. Called by the gateway, which
serves it at `/openapi.json`, and by `neev-gateway openapi`.
"""

from __future__ import annotations

from neev_provider.openapi.document import document, encoded

__all__ = ["document", "encoded"]

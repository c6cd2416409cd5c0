"""The values that say how an answer is made, and their rules: the same on every endpoint that takes them.

Nothing but types; the ranges are NeevAI's (`NEEV_API.md`, "Chat request"). Called by `chat.py` and `other_routes.py`.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from neev_provider.contract.messages import Text

__all__ = ["Choices", "Flag", "Penalty", "Stop", "StopList", "Temperature", "TokenLimit", "TopP"]

# NeevAI states no upper bound. No model comes near this one, and the ledgers' scripts count in doubles.
TokenLimit = Annotated[int, Meta(ge=1, le=2_147_483_647, description="an integer from 1 to 2147483647")]
Temperature = Annotated[float, Meta(ge=0, le=2, description="a number from 0 to 2")]
TopP = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
Penalty = Annotated[float, Meta(ge=-2, le=2, description="a number from -2 to 2")]
Choices = Annotated[int, Meta(ge=1, le=128, description="an integer from 1 to 128")]
Flag = Annotated[bool, Meta(description="true or false")]
StopList = Annotated[list[Text], Meta(max_length=4, description="an array of up to 4 strings")]
Stop = Annotated[
    str | Annotated[list[Text], Meta(max_length=4)] | None,
    Meta(description="a string or an array of up to 4 strings"),
]

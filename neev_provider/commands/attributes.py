"""The options that say what a key or team may do, and what they mean together.

Called by the commands for keys and teams; what a value may be is `admission/records.py`'s to say.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from neev_provider.errors import RequestError

__all__ = [
    "AliasOption",
    "BudgetDurationOption",
    "BudgetOption",
    "ByOption",
    "ExpiresOption",
    "JsonOption",
    "MetadataOption",
    "ModelsOption",
    "ParallelOption",
    "RpmOption",
    "TpmOption",
    "UnsetOption",
    "Unsettable",
    "given",
    "in_options",
    "to_unset",
]

AliasOption = Annotated[str | None, typer.Option("--alias", help="A name for people.")]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="A model that may be called; again for more.", show_default="all"),
]
RpmOption = Annotated[
    int | None, typer.Option("--rpm-limit", "--rpm", help="Requests a minute.", show_default="no limit")
]
TpmOption = Annotated[
    int | None, typer.Option("--tpm-limit", "--tpm", help="Tokens a minute.", show_default="no limit")
]
ParallelOption = Annotated[
    int | None,
    typer.Option("--max-parallel-requests", "--parallel", help="Calls at once.", show_default="no limit"),
]
BudgetOption = Annotated[
    str | None, typer.Option("--max-budget", "--budget", help="USD, as 12.50.", show_default="no limit")
]
BudgetDurationOption = Annotated[
    str | None,
    typer.Option(
        "--budget-duration",
        help="After which the budget begins anew: 24h, 30d, 1mo (a calendar month, UTC).",
        show_default="never",
    ),
]
ExpiresOption = Annotated[
    str | None,
    typer.Option(
        "--expires", help="A time as 2026-12-31T12:00:00Z, or a duration as 90d.", show_default="never"
    ),
]
MetadataOption = Annotated[str | None, typer.Option("--metadata", help="A JSON object of your own.")]
ByOption = Annotated[
    str | None,
    typer.Option("--by", help="Who makes the change, for the audit.", show_default="your user name"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Unsettable(StrEnum):
    """What can be taken away."""

    ALIAS = "alias"
    MODELS = "models"
    RPM_LIMIT = "rpm_limit"
    TPM_LIMIT = "tpm_limit"
    MAX_PARALLEL_REQUESTS = "max_parallel_requests"
    MAX_BUDGET = "max_budget"
    BUDGET_DURATION = "budget_duration"
    EXPIRES = "expires"
    METADATA = "metadata"


_OPTIONS: Final = {
    **{str(name): f"--{name.replace('_', '-')}" for name in Unsettable},
    str(Unsettable.MODELS): "--model",
    str(Unsettable.MAX_BUDGET): "--budget",  # as the documentation has it
}

UnsetOption = Annotated[
    list[Unsettable] | None,
    typer.Option("--unset", help="Take a limit or another attribute away; again for more."),
]


def given(
    *,
    alias: str | None,
    models: list[str] | None,
    rpm_limit: int | None,
    tpm_limit: int | None,
    max_parallel_requests: int | None,
    max_budget: str | None,
    budget_duration: str | None,
    metadata: str | None,
    expires: str | None = None,
) -> dict[str, Any]:
    """Return the attributes that were given.

    Raises:
        RequestError: the metadata are not JSON.
    """
    attributes: dict[str, Any] = {
        "alias": alias,
        "models": models or None,
        "rpm_limit": rpm_limit,
        "tpm_limit": tpm_limit,
        "max_parallel_requests": max_parallel_requests,
        "max_budget": max_budget,
        "budget_duration": budget_duration,
        "expires": expires,
        "metadata": _parsed(metadata),
    }
    return {name: value for name, value in attributes.items() if value is not None}


def to_unset(attributes: dict[str, Any], names: list[Unsettable] | None) -> dict[str, Any]:
    """Return the attributes with those that are to be taken away as None.

    Raises:
        RequestError: one is given too, or nothing is to be changed.
    """
    for name in names or ():
        if name in attributes:
            raise RequestError(
                "invalid_value", f"'{_OPTIONS[name]}' is both given and in --unset.", param=name
            )
    changes = attributes | {str(name): None for name in names or ()}
    if not changes:
        raise RequestError("missing_required_parameter", "Nothing to change: give an option. See --help.")
    return changes


def in_options(error: RequestError) -> RequestError:
    """Return an error about an attribute as one about the option that was typed: `--budget` for `max_budget`.

    Args:
        error: of a command's work; one about anything else is returned as it is.
    """
    option = _OPTIONS.get(error.param or "")
    subject = f"'{error.param}' "
    if option is None or not error.message.startswith(subject):
        return error
    return RequestError(error.code, f"'{option}' {error.message.removeprefix(subject)}", param=error.param)


def _parsed(metadata: str | None) -> Any:
    if metadata is None:
        return None
    try:
        return json.loads(metadata)
    except ValueError as error:
        raise RequestError("invalid_value", f"'--metadata' is not JSON: {error}.", param="metadata") from None

"""The models that NeevAI serves: what they cost, hold and refuse.

Responsible for the static catalog (`catalog.yaml`), entries that a team adds to it, and the live
view that merges it with the upstream's `GET /v1/models`. Not responsible for routing (a public model name may stand
for several deployments) nor for what a call costs (`usage.py`). Called by every door.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from dataclasses import dataclass, field, replace
from decimal import Decimal
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
import yaml

from neev_provider.errors import ConfigError, NeevError
from neev_provider.schema_words import in_words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

__all__ = ["Catalog", "LiveCatalog", "Model", "Price", "usd_per_million_to_nanos"]

Modality = Literal["chat", "speech"]
_Count = Annotated[int, msgspec.Meta(ge=1)]

_log = logging.getLogger(__name__)

DEFAULT_REFRESH_SECONDS: Final = 300.0
_UNKNOWN_OWNER: Final = "neevai"  # GET /v1/models must name an owner; the house itself stands in


@dataclass(frozen=True, slots=True)
class Price:
    """What one unit costs, in integer nano-USD (USD per 1M tokens x 1000).

    Attributes:
        prompt_nanos: per prompt token.
        completion_nanos: per completion token.
        cached_prompt_nanos: per prompt token that upstream served from its cache; None = as `prompt_nanos`.
        character_nanos: per character of speech input; None for a chat model.
    """

    prompt_nanos: int
    completion_nanos: int
    cached_prompt_nanos: int | None = None
    character_nanos: int | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """One catalog entry.

    Attributes:
        id: upstream's id, matched exactly (ids mix dots and dashes).
        owned_by: who made the model, for GET /v1/models.
        created: Unix seconds, for GET /v1/models.
        modality: which endpoint serves it.
        context_window: tokens of prompt and completion together; None = unknown.
        max_output_tokens: upstream's own limit of a completion; None = unknown.
        price: None = unpriced, which is not free.
        voices: what `voice` may be; None = any.
        refused_fields: top-level request fields that this model answers with an error.
        listed: whether upstream's GET /v1/models names it.
        certainty: fact name to A, B, C or D (see `catalog.yaml`).
        source: fact name to where it was read.
        notes: what else is known, for people.
    """

    id: str
    owned_by: str
    created: int
    modality: Modality = "chat"
    context_window: int | None = None
    max_output_tokens: int | None = None
    price: Price | None = None
    voices: tuple[str, ...] | None = None
    refused_fields: frozenset[str] = frozenset()
    listed: bool = False
    certainty: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""

    def listing(self) -> dict[str, str | int]:
        """Return the entry as GET /v1/models shows it, in OpenAI's shape."""
        return {"id": self.id, "object": "model", "created": self.created, "owned_by": self.owned_by}


def usd_per_million_to_nanos(value: object) -> int:
    """Turn a price in USD per 1,000,000 units into integer nano-USD per unit.

    Raises:
        ValueError: not a number, negative, or finer than a nano-USD per unit.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError("must be a number of USD per 1,000,000")  # noqa: TRY004 - one error type for the caller
    try:
        # str() first: Decimal(0.28) would carry the binary fraction along.
        nanos = Decimal(str(value)) * 1000
    except ArithmeticError:
        raise ValueError("must be a number of USD per 1,000,000") from None
    if not nanos.is_finite() or nanos < 0:
        raise ValueError("must be 0 or more")
    if nanos != nanos.to_integral_value():
        raise ValueError("must be a multiple of 0.001 USD per 1,000,000 (one nano-USD a unit)")
    return int(nanos)


class Catalog:
    """An immutable set of models by id.

    `Catalog.load()` reads the one that comes with the package; `extended()` adds a team's own entries.
    """

    def __init__(self, models: Iterable[Model]) -> None:
        self._models: Final = {model.id: model for model in models}

    @classmethod
    def load(cls, path: Path | str | None = None) -> Catalog:
        """Read a catalog file, the package's own by default.

        Raises:
            ConfigError: the file cannot be read or an entry is wrong.
        """
        if path is None:
            source = "catalog.yaml"
            text = resources.files("neev_provider").joinpath(source).read_text(encoding="utf-8")
        else:
            source = str(path)
            try:
                text = Path(path).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(
                    source, "", f"cannot be read ({_reason(error)})", "Name a readable file."
                ) from None
        try:
            document = yaml.safe_load(text)
        except (ValueError, RecursionError):
            raise ConfigError(
                source, "", "holds a value that YAML cannot read", "Put texts in quotes."
            ) from None
        except yaml.YAMLError as error:
            raise ConfigError(source, yaml_place(error), "is not valid YAML", "Correct the line.") from None
        if not isinstance(document, dict) or not isinstance(document.get("models"), list):
            raise ConfigError(source, "models", "must be a list", "See the catalog.yaml of the package.")
        return cls(parse_entries(document["models"], source, "models", _unix(document.get("updated"))))

    def dump(self) -> str:
        """Return the catalog as a file that `load` reads: for another process, with a team's own entries."""
        return yaml.safe_dump({"models": [_as_entry(model) for model in self]}, sort_keys=False)

    def get(self, model_id: str) -> Model | None:
        """Return the model with exactly this id, or None."""
        return self._models.get(model_id)

    def extended(self, models: Iterable[Model]) -> Catalog:
        """Return a catalog in which `models` are added, or replace entries of the same id."""
        return Catalog({**self._models, **{model.id: model for model in models}}.values())

    def nearest(self, model_id: str) -> str | None:
        """Return the id most like `model_id`, for error messages, or None if nothing is near."""
        found = get_close_matches(model_id, self._models, n=1, cutoff=0.6)
        return found[0] if found else None

    def merged(self, listing: Iterable[Mapping[str, Any]]) -> Catalog:
        """Return the catalog as upstream's own list sees it.

        Upstream decides owner, creation time and what is listed; prices and limits stay ours. Models that only
        upstream knows are added unpriced; ours that it does not list stay, for its list is incomplete
        (`NEEV_API.md`: tts-1 works and is not in it).
        """
        models = {model.id: replace(model, listed=False) for model in self._models.values()}
        for entry in listing:
            model_id = entry.get("id")
            if not isinstance(model_id, str) or not model_id:
                continue
            owner, created = entry.get("owned_by"), entry.get("created")
            known = models.get(model_id) or Model(model_id, _UNKNOWN_OWNER, 0)
            models[model_id] = replace(
                known,
                owned_by=owner if isinstance(owner, str) and owner else known.owned_by,
                created=created if isinstance(created, int) and created > 0 else known.created,
                listed=True,
                certainty={**known.certainty, "id": "B"},
            )
        return Catalog(models.values())

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)

    def __contains__(self, model_id: object) -> bool:
        return model_id in self._models


class LiveCatalog:
    """A catalog kept in step with upstream's list, in the background.

    `current` never waits: it is the last good merge, at first the static catalog. A failed refresh keeps it and
    logs once per change of state.
    """

    def __init__(
        self,
        static: Catalog,
        fetch: Callable[[], Awaitable[Iterable[Mapping[str, Any]]]],
        *,
        refresh_seconds: float = DEFAULT_REFRESH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._static: Final = static
        self._fetch: Final = fetch
        self._refresh_seconds: Final = refresh_seconds
        self._clock: Final = clock
        self._refreshed_at: float | None = None
        self._healthy = True
        self.current = static

    @property
    def age_seconds(self) -> float | None:
        """Seconds since upstream's list was last read, or None if it never was."""
        return None if self._refreshed_at is None else self._clock() - self._refreshed_at

    async def refresh(self) -> bool:
        """Read upstream's list once; return whether it could be read."""
        try:
            listing = list(await self._fetch())
        except NeevError as error:
            if self._healthy:
                _log.warning("model list not refreshed, keeping the last good one: %s", error.message)
            self._healthy = False
            return False
        self.current = self._static.merged(listing)
        self._refreshed_at = self._clock()
        self._healthy = True
        return True

    async def run(self) -> None:
        """Refresh now and then every `refresh_seconds`, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._refresh_seconds)


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """A catalog entry as it is written in YAML."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    owned_by: str | None = None
    created: _Count | None = None
    modality: Modality = "chat"
    context_window: _Count | None = None
    max_output_tokens: _Count | None = None
    price: dict[str, Any] | None = None
    voices: list[str] | Literal["any"] | None = None
    refused_fields: list[str] = []
    listed: bool = False
    certainty: dict[str, Literal["A", "B", "C", "D"]] = {}
    source: dict[str, str] = {}
    notes: str = ""


_PRICE_FIELDS: Final = {
    "input": "prompt_nanos",
    "output": "completion_nanos",
    "cached_input": "cached_prompt_nanos",
    "characters": "character_nanos",
}


def parse_entries(entries: object, source: str, place: str, created: int) -> list[Model]:
    """Read catalog entries as they stand in `catalog.yaml` or under `neev.models`.

    Args:
        entries: what YAML gave.
        source: file name, for errors.
        place: where in the file, for errors.
        created: Unix seconds for entries that do not say.

    Raises:
        ConfigError: an entry is wrong; names the place and the remedy.
    """
    if not isinstance(entries, list):
        raise ConfigError(source, place, "must be a list of models", "Give each model an id.")
    models: dict[str, Model] = {}
    for index, raw in enumerate(entries):
        here = f"{place}[{index}]"
        try:
            entry = msgspec.convert(raw, _Entry)
        except msgspec.ValidationError as error:
            problem, _, path = str(error).partition(" - at `$")
            raise ConfigError(
                source,
                here + path.rstrip("`"),
                in_words(problem),
                "The package's catalog.yaml shows the form.",
            ) from None
        if entry.id in models:
            raise ConfigError(source, f"{here}.id", f"'{entry.id}' is there twice", "Remove one of them.")
        models[entry.id] = Model(
            id=entry.id,
            owned_by=entry.owned_by or _UNKNOWN_OWNER,
            created=entry.created or created,
            modality=entry.modality,
            context_window=entry.context_window,
            max_output_tokens=entry.max_output_tokens,
            price=_price(entry.price, entry.modality, source, f"{here}.price"),
            voices=tuple(entry.voices) if isinstance(entry.voices, list) else None,
            refused_fields=frozenset(entry.refused_fields),
            listed=entry.listed,
            certainty=entry.certainty,
            source=entry.source,
            notes=entry.notes,
        )
    return list(models.values())


def _price(value: dict[str, Any] | None, modality: str, source: str, place: str) -> Price | None:
    if value is None:
        return None
    needed = {"characters"} if modality == "speech" else {"input", "output"}
    allowed = needed if modality == "speech" else needed | {"cached_input"}
    if not needed <= set(value) <= allowed:
        raise ConfigError(
            source,
            place,
            f"must hold {' and '.join(sorted(needed))}",
            "Give USD per 1,000,000, or null if unknown.",
        )
    nanos: dict[str, int] = {}
    for name, number in value.items():
        try:
            nanos[_PRICE_FIELDS[name]] = usd_per_million_to_nanos(number)
        except ValueError as error:
            raise ConfigError(
                source, f"{place}.{name}", str(error), "Or price: null if it is unknown."
            ) from None
    return Price(**{"prompt_nanos": 0, "completion_nanos": 0, **nanos})


def _as_entry(model: Model) -> dict[str, Any]:
    entry = {
        name: value for name, value in msgspec.to_builtins(model).items() if value not in (None, [], {}, 0)
    }
    if model.modality == "speech" and model.voices is None:
        entry["voices"] = "any"
    if model.price is not None:
        needed = ("characters",) if model.modality == "speech" else ("input", "output", "cached_input")
        nanos = {name: getattr(model.price, _PRICE_FIELDS[name]) for name in needed}
        # As text: a binary fraction would not come back as the same number.
        entry["price"] = {name: str(Decimal(n) / 1000) for name, n in nanos.items() if n is not None}
    return entry


def _unix(value: object) -> int:
    """Return midnight UTC of a YAML date as Unix seconds; 0 if there is none."""
    if isinstance(value, dt.date):
        return int(dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC).timestamp())
    return 0


def yaml_place(error: yaml.YAMLError) -> str:
    """Return the line that a YAML error points at, as `line 12, column 3`, or ""."""
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"


def _reason(error: Exception) -> str:
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else "not UTF-8 text"

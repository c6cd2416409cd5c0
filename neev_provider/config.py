"""Reads `proxy_config.yaml` once and says what is wrong with it, in one line that names file, place and remedy.

The file is LiteLLM's own; this module checks what the two doors rely on and leaves the rest to LiteLLM.
Responsible for reading and checking; `config_sync.py` writes the generated part. Called by the command line.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import yaml
from typing_extensions import override

from neev_provider import settings
from neev_provider.admission.rules import period_of
from neev_provider.catalog import Catalog, parse_entries, yaml_place
from neev_provider.config_checks import check_document, check_spelling
from neev_provider.config_schema import Document, NeevSettings
from neev_provider.errors import ConfigError
from neev_provider.schema_words import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from neev_provider.config_schema import Entry, StaticKey

__all__ = [
    "REFERENCE",
    "ConfiguredDeployment",
    "ProxyConfig",
    "load_config",
    "read_document",
    "read_yaml",
]

_PREFIX: Final = "neev/"
_STRONG_KEY: Final = re.compile(r"sk-[\x21-\x7e]{32,}")
REFERENCE: Final = "os.environ/"
"""What a value begins with that is the name of a variable."""

_ENTRY_KEYS: Final = frozenset({"model_name", "litellm_params", "model_info"})


@dataclass(frozen=True, slots=True)
class ConfiguredDeployment:
    """One entry of `model_list`.

    Attributes:
        model_name: the public name (model group) that clients ask for.
        model: LiteLLM's model string, with its provider prefix.
        neev_id: NeevAI's id if the adapter serves it, else None.
        params: `litellm_params`, as written.
        info: `model_info`, as written.
        extra: what else the entry holds, as written.
    """

    model_name: str
    model: str
    neev_id: str | None
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    info: Mapping[str, Any] = field(default_factory=dict, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """A checked configuration.

    Attributes:
        path: the file it was read from.
        document: what YAML gave, unchanged.
        catalog: the package's catalog with the file's own `neev.models`.
        deployments: `model_list`, in its order.
        neev: our own section.
        keys: `neev.keys`, token to alias.
    """

    path: Path
    document: dict[str, Any]
    catalog: Catalog
    deployments: tuple[ConfiguredDeployment, ...]
    neev: NeevSettings
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)


def load_config(path: Path | str, environ: Mapping[str, str]) -> ProxyConfig:
    """Read and check a configuration file.

    Args:
        path: the file.
        environ: what `os.environ/NAME` references are looked up in.

    Raises:
        ConfigError: it cannot be read or is wrong.
    """
    path = Path(path)
    document = read_document(path)
    source = str(path)
    check_spelling(document, source)
    try:
        checked = msgspec.convert(document, Document)
    except msgspec.ValidationError as error:
        raise _wrong(source, error) from None
    catalog = Catalog.load(settings.catalog_path(environ))
    neev = checked.neev or NeevSettings()
    catalog = catalog.extended(parse_entries(neev.models, source, "neev.models", created=0))
    deployments = tuple(
        _deployment(entry, raw, catalog, source, f"model_list[{index}].litellm_params.model")
        for index, (entry, raw) in enumerate(zip(checked.model_list, document["model_list"], strict=True))
    )
    _check_budget(neev, source)
    _check_master_key(checked, source)
    check_document(document, {deployment.model_name for deployment in deployments}, source)
    _check_handlers(checked, path)
    for place, name in _references(document):
        if not environ.get(name):
            raise ConfigError(
                source, place, f"refers to {name}, which is not set", f"Set it: export {name}=..."
            )
    keys = _keys(neev.keys, source, environ)
    return ProxyConfig(path, document, catalog, deployments, neev, keys)


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice in a mapping is an error: the first would be lost silently."""

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key '{key.value}' stands twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_document(path: Path) -> dict[str, Any]:
    """Return what a configuration file holds, unchecked but for YAML and being a mapping.

    Raises:
        ConfigError: it cannot be read.
    """
    document = read_yaml(
        path, if_missing="Name a file with --config, or make one: neev-gateway models sync-config."
    )
    if not isinstance(document, dict):
        raise ConfigError(str(path), "", "must be a mapping with a model_list", "See proxy_config.yaml.")
    return document


def read_yaml(path: Path, *, if_missing: str = "Name another file.") -> Any:
    """Return what a YAML (or JSON) file holds; a key that stands twice is an error.

    Args:
        path: of the file.
        if_missing: what to do if there is none.

    Raises:
        ConfigError: it cannot be read.
    """
    source = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(source, "", "does not exist", if_missing) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(source, "", f"cannot be read ({reason})", "Name a readable file.") from None
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a subclass of SafeLoader
    except (ValueError, RecursionError):
        # A date that is none; brackets without end.
        raise ConfigError(source, "", "holds a value that YAML cannot read", "Put texts in quotes.") from None
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigError(
            source, yaml_place(error), f"is not valid YAML: {problem}", "Correct that line."
        ) from None


def _keys(entries: list[StaticKey], source: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the configuration's own keys, token to alias."""
    found: dict[str, str] = {}
    for index, entry in enumerate(entries):
        place = f"neev.keys[{index}]"
        is_reference = entry.key.startswith(REFERENCE)
        token = environ[entry.key.removeprefix(REFERENCE)] if is_reference else entry.key
        if not _STRONG_KEY.fullmatch(token):
            raise _too_weak(source, f"{place}.key")
        if token in found or entry.alias in found.values():
            raise ConfigError(
                source, place, "stands twice", "Give every key an alias and a token of its own."
            )
        found[token] = entry.alias
    return found


def _too_weak(source: str, place: str) -> ConfigError:
    return ConfigError(
        source,
        place,
        "is too weak: whoever guesses it spends your money",
        "Use sk- and at least 32 random characters.",
    )


def _wrong(source: str, error: msgspec.ValidationError) -> ConfigError:
    """Turn msgspec's sentence, "Expected `int`, got `str` - at `$.a.b`", into place and problem in words."""
    problem, _, place = str(error).partition(" - at `$")
    place = place.rstrip("`").lstrip(".").replace("[...]", "")
    return ConfigError(source, place, in_words(problem), "See docs/configuration.md.")


def _deployment(
    entry: Entry, raw: Mapping[str, Any], catalog: Catalog, source: str, place: str
) -> ConfiguredDeployment:
    model = entry.litellm_params.model
    neev_id = model.removeprefix(_PREFIX) if model.startswith(_PREFIX) else None
    if neev_id is not None and "*" not in neev_id and neev_id not in catalog:
        near = catalog.nearest(neev_id)
        hint = f"Did you mean {_PREFIX}{near}? " if near else ""
        raise ConfigError(
            source, place, f"'{neev_id}' is not in the catalog", f"{hint}A new model goes under neev.models."
        )
    known = catalog.get(model.lower())
    # OpenAI has speech models of the same names, which LiteLLM knows without a prefix.
    if (
        known is not None
        and known.modality == "chat"
        and not raw["litellm_params"].get("custom_llm_provider")
    ):
        raise ConfigError(
            source,
            place,
            f"'{model}' names no provider, so LiteLLM cannot tell whose it is and leaves it out",
            f"Write {_PREFIX}{known.id}, or another provider's prefix.",
        )
    return ConfiguredDeployment(
        entry.model_name,
        model,
        neev_id,
        params=raw["litellm_params"],
        info=raw.get("model_info") or {},
        extra={name: value for name, value in raw.items() if name not in _ENTRY_KEYS},
    )


def _check_budget(neev: NeevSettings, source: str) -> None:
    try:
        period_of(neev.admission.budget_duration or "1d")
    except ValueError as error:
        raise ConfigError(
            source, "neev.admission.budget_duration", f"is too long: {error}", "Use 1mo, or leave it away."
        ) from None


def _check_master_key(checked: Document, source: str) -> None:
    """Refuse a weak key that stands in the file itself; what a variable holds is checked where it is set."""
    key = None if checked.general_settings is None else checked.general_settings.master_key
    if key is not None and not key.startswith(REFERENCE) and not _STRONG_KEY.fullmatch(key):
        raise _too_weak(source, "general_settings.master_key")


def _check_handlers(checked: Document, path: Path) -> None:
    """Refuse a handler whose module is nowhere, as a package or, as LiteLLM looks, beside the file."""
    handlers = (checked.litellm_settings.custom_provider_map if checked.litellm_settings else None) or ()
    for index, handler in enumerate(handlers):
        module = handler.custom_handler.rpartition(".")[0]
        if path.parent.joinpath(*module.split(".")).with_suffix(".py").exists():
            continue
        try:
            found = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            found = None
        if found is None:
            raise ConfigError(
                str(path),
                f"litellm_settings.custom_provider_map[{index}].custom_handler",
                f"the module '{module}' does not exist",
                "Install it, or put it beside the file.",
            )


def _references(value: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield place and variable of every `os.environ/NAME` in a document."""
    if isinstance(value, str):
        if value.startswith(REFERENCE):
            yield place, value.removeprefix(REFERENCE)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _references(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _references(item, f"{place}[{index}]")

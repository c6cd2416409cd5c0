"""What a type cannot say of `proxy_config.yaml`: names that must exist, names that are nearly right, prices.

LiteLLM passes over a setting that it does not know and over a price that it cannot read, and finds out about a
fallback at the first failure. Called by `config.py`.
"""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

import neev_provider
from neev_provider.errors import ConfigError
from neev_provider.router_names import CACHE_TYPES, CHOICES, ROUTER_NAMES, ROUTING_STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

__all__ = ["check_document", "check_for_litellm", "check_spelling"]

_NAMELIKE: Final = 0.9  # of `difflib`'s ratio: one letter of ten, or two that changed places
_SECTIONLIKE: Final = 0.85  # none of LiteLLM's own sections is as near to another
_ROUTERLIKE: Final = 0.75  # its names are all known; one that is not near any may be a newer LiteLLM's
_PARAMLIKE: Final = 0.85  # the names are short, and others are the provider's
_PRICELIKE: Final = 0.95  # LiteLLM has many prices, whose long names differ by a word
_CHAINS: Final = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
_ENTRY: Final = "model_name litellm_params model_info"
# Names by section that are often written; others are LiteLLM's to know.
_SETTINGS: Final[Mapping[str, str]] = {
    "litellm_settings": """
        allowed_fails cache_params callbacks content_policy_fallbacks context_window_fallbacks
        custom_provider_map default_fallbacks disable_hf_tokenizer_download disable_stop_sequence_limit
        drop_params enable_post_custom_auth_checks fallbacks failure_callback max_fallbacks num_retries
        request_timeout success_callback suppress_debug_info telemetry
    """,
    "general_settings": """
        allow_client_side_credentials custom_auth custom_auth_run_common_checks disable_spend_logs
        enforce_fallback_model_access master_key
    """,
}
_PARAMS: Final = """
    allowed_openai_params api_base api_key cooldown_time extra_headers itpm max_parallel_requests model num_retries
    order otpm rpm stream_timeout timeout tpm weight
"""
_INFO: Final = """
    cache_creation_input_token_cost cache_read_input_token_cost input_cost_per_character input_cost_per_token
    max_input_tokens max_output_tokens output_cost_per_token
"""
_ROUTER: Final = "router_settings"
_PROVIDER: Final = "neev"
_SECTIONS: Final = ("model_list", "environment_variables", "neev", _ROUTER, *_SETTINGS)


def check_spelling(document: Mapping[str, Any], source: str) -> None:
    """Refuse names that differ by a letter, or by the order of their letters, from a known one.

    Args:
        document: what YAML gave.
        source: the file, for messages.

    Raises:
        ConfigError: there is one.
    """
    _spelt(document, _SECTIONS, source, "", _SECTIONLIKE)
    _spelt(document.get(_ROUTER), ROUTER_NAMES, source, _ROUTER, _ROUTERLIKE)
    for section, known in _SETTINGS.items():
        _spelt(document.get(section), known.split(), source, section)
    entries = document.get("model_list")
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        place = f"model_list[{index}]"
        _spelt(entry, _ENTRY.split(), source, place)
        if isinstance(entry, dict):
            params = f"{place}.litellm_params"
            _spelt(entry.get("litellm_params"), _PARAMS.split(), source, params, _PARAMLIKE)
            _spelt(entry.get("model_info"), _INFO.split(), source, f"{place}.model_info", _PRICELIKE)


def check_document(document: Mapping[str, Any], names: set[str], source: str) -> None:
    """Refuse names that do not exist, and prices that are no amounts.

    Args:
        document: of the right types.
        names: of `model_list`.
        source: the file, for messages.

    Raises:
        ConfigError: there is one.
    """
    router = document.get(_ROUTER) or {}
    aliases = router.get("model_group_alias") or {}
    _check_aliases(aliases, names, source)
    if not any("*" in name for name in names):
        groups = {group.get("group_name") for group in _mappings(router.get("routing_groups"))}
        ids = {(entry.get("model_info") or {}).get("id") for entry in document["model_list"]}
        known = names | set(aliases) | groups | ids | {"*"}
        for place, name in _named(document):
            if name not in known:
                raise ConfigError(
                    source, place, f"'{name}' is not a model_name", "Name one of the model_list."
                )
    for section in ("router_settings", "litellm_settings"):
        for setting in _CHAINS:
            for index, rule in enumerate((document.get(section) or {}).get(setting) or ()):
                if len(rule) != 1:
                    raise ConfigError(
                        source,
                        f"{section}.{setting}[{index}]",
                        "must have one key, the model that the fallbacks are for: LiteLLM reads the first alone",
                        "Write each model as an entry of its own.",
                    )
    for index, entry in enumerate(document["model_list"]):
        _check_prices(entry.get("model_info") or {}, f"model_list[{index}].model_info", source)
    _check_own(document, source)
    _check_providers(document, source)
    _check_choices(document, source)


def _check_choices(document: Mapping[str, Any], source: str) -> None:
    """Refuse values that LiteLLM's router has no meaning for, of settings that take one of a few."""
    router = document.get(_ROUTER) or {}
    for setting, choices in CHOICES.items():
        value = router.get(setting)
        if isinstance(value, list):
            for index, each in enumerate(value):
                _chosen(each, choices, source, f"{_ROUTER}.{setting}[{index}]")
        elif value is not None:
            _chosen(value, choices, source, f"{_ROUTER}.{setting}")
    cache = (document.get("litellm_settings") or {}).get("cache_params")
    if isinstance(cache, dict) and cache.get("type") is not None:
        _chosen(cache["type"], CACHE_TYPES, source, "litellm_settings.cache_params.type")
    for index, group in enumerate(_mappings(router.get("routing_groups"))):
        strategy = group.get("routing_strategy")
        if strategy is not None:
            place = f"{_ROUTER}.routing_groups[{index}].routing_strategy"
            _chosen(strategy, (*ROUTING_STRATEGIES, "priority"), source, place)


def _check_providers(document: Mapping[str, Any], source: str) -> None:
    """Refuse what is nearly our provider's name: LiteLLM has none that begins with it."""
    handlers = (document.get("litellm_settings") or {}).get("custom_provider_map") or ()
    known = {_PROVIDER, *(handler.get("provider") for handler in handlers)}
    for index, entry in enumerate(document["model_list"]):
        provider, slash, model = entry["litellm_params"]["model"].partition("/")
        if slash and provider not in known and provider.lower().startswith(_PROVIDER):
            raise ConfigError(
                source,
                f"model_list[{index}].litellm_params.model",
                f"'{provider}' is not a provider that LiteLLM knows",
                f"Did you mean {_PROVIDER}/{model}?",
            )


def check_for_litellm(document: Mapping[str, Any], source: str) -> None:
    """Refuse a configuration that LiteLLM, if it is started with it, does not serve NeevAI's models from.

    Args:
        document: as checked by `check_document`.
        source: the file, for messages.

    Raises:
        ConfigError: an entry has the provider `neev`, which nothing tells LiteLLM about: it would leave it out.
    """
    handlers = (document.get("litellm_settings") or {}).get("custom_provider_map") or ()
    if any(handler.get("provider") == _PROVIDER for handler in handlers):
        return
    for index, entry in enumerate(document["model_list"]):
        params = entry["litellm_params"]
        if params["model"].startswith(f"{_PROVIDER}/") or params.get("custom_llm_provider") == _PROVIDER:
            raise ConfigError(
                source,
                f"model_list[{index}].litellm_params.model",
                f"has the provider '{_PROVIDER}', which LiteLLM does not know without a handler for it",
                "Write under litellm_settings: "
                f"custom_provider_map: [{{provider: {_PROVIDER}, custom_handler: neev_provider.neev}}], "
                "or serve with --no-litellm.",
            )


def _check_aliases(aliases: Mapping[str, Any], names: set[str], source: str) -> None:
    """Refuse aliases of aliases: LiteLLM and the gateway follow one, and no more."""
    for alias, entry in aliases.items():
        target = _target(entry)
        if target in names or target not in aliases or any(fnmatchcase(target, name) for name in names):
            continue
        place = f"{_ROUTER}.model_group_alias.{alias}"
        seen = [alias]
        while target in aliases and target not in seen:
            seen.append(target)
            target = _target(aliases[target])
        if target in seen:
            way = " -> ".join([*seen, target])
            raise ConfigError(
                source, place, f"leads in a circle ({way})", "Name a model_name of the model_list."
            )
        raise ConfigError(
            source,
            place,
            f"'{seen[1]}' is an alias itself, and only one alias is followed",
            f"Name what it stands for: {target}.",
        )


def _chosen(value: object, choices: Sequence[str], source: str, place: str) -> None:
    if value in choices:
        return
    near = difflib.get_close_matches(str(value), choices, n=1)
    raise ConfigError(
        source,
        place,
        f"'{str(value)[:40]}' is none of LiteLLM's: {', '.join(choices)}",
        f"Did you mean {near[0]}?" if near else "Write one of these, or leave it away.",
    )


def _mappings(values: object) -> Iterator[Mapping[str, Any]]:
    """Yield what is a mapping in a list that LiteLLM checks."""
    yield from (value for value in (values if isinstance(values, list) else ()) if isinstance(value, dict))


def _spelt(
    section: object, known: Collection[str], source: str, place: str, cutoff: float = _NAMELIKE
) -> None:
    for name in section if isinstance(section, dict) else ():
        if not isinstance(name, str) or name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=cutoff) or [
            other for other in known if sorted(other) == sorted(name)
        ]
        # LiteLLM has variants of prices, as for a service tier.
        if near and not name.startswith(f"{near[0]}_"):
            raise ConfigError(
                source,
                f"{place}.{name}" if place else name,
                "is not a setting that LiteLLM knows" if place else "is not the name of a section",
                f"Did you mean {near[0]}?",
            )


def _named(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield place and name wherever a model_name is referred to."""
    for section in ("router_settings", "litellm_settings"):
        settings = document.get(section) or {}
        for target in settings.get("default_fallbacks") or ():
            yield f"{section}.default_fallbacks", _target(target)
        for setting in _CHAINS:
            for index, rule in enumerate(settings.get(setting) or ()):
                for name, targets in rule.items():
                    for each in (name, *map(_target, targets)):
                        yield f"{section}.{setting}[{index}]", each
    for alias, entry in ((document.get("router_settings") or {}).get("model_group_alias") or {}).items():
        yield f"router_settings.model_group_alias.{alias}", _target(entry)


def _target(target: object) -> str:
    return str(target.get("model", "")) if isinstance(target, dict) else str(target)


def _check_prices(info: Mapping[str, Any], place: str, source: str) -> None:
    for name, value in info.items():
        if "cost" not in name or value is None or isinstance(value, dict | list | bool):
            continue
        if isinstance(value, str):
            raise ConfigError(
                source,
                f"{place}.{name}",
                f"is a text, '{value[:20]}', so the model would have no price",
                "Write a number; YAML needs a point in it: 0.0000006 or 6.0e-07.",
            )
        if value < 0:
            raise ConfigError(
                source, f"{place}.{name}", "is less than nothing", "Give USD per unit, 0 or more."
            )


def _check_own(document: Mapping[str, Any], source: str) -> None:
    """Refuse what this package is named for and does not have."""
    litellm = document.get("litellm_settings") or {}
    general = document.get("general_settings") or {}
    callbacks = litellm.get("callbacks") or ()
    for place, name in (
        *(
            (f"litellm_settings.custom_provider_map[{index}].custom_handler", entry.get("custom_handler"))
            for index, entry in enumerate(litellm.get("custom_provider_map") or ())
        ),
        *(
            ("litellm_settings.callbacks", name)
            for name in ([callbacks] if isinstance(callbacks, str) else callbacks)
        ),
        ("general_settings.custom_auth", general.get("custom_auth")),
    ):
        package, _, own = str(name).partition(".")
        if package == neev_provider.__name__ and "." not in own and own not in neev_provider.__all__:
            raise ConfigError(
                source, place, f"'{name}' does not exist", "It has neev, plugin, accounts and custom_auth."
            )

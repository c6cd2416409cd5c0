"""Which deployments serve a public model name, and which of them to call next: LiteLLM's Router without LiteLLM.

    group = router.resolve("gpt-oss-120b")          # None: no such model; not group.fast: LiteLLM's to answer
    plan = router.plan(group)
    while isinstance(step := plan.next(), Attempt):
        await sleep(step.wait)
        try:
            answer = await call(step.deployment)
        except NeevError as error:
            plan.failed(error)
        else:
            plan.succeeded()
            break

Responsible for deciding, the way LiteLLM 1.106.2 decides: names, aliases and wildcards here, weights, retries and
fallbacks in `routing_plan.py`, cooldowns in `cooldown.py`. It neither calls nor sleeps. What is not understood of a
configuration is LiteLLM's (`Group.reason`). Called by the gateway.

Where this differs from LiteLLM on purpose: cooldowns are those of one process, even with `router_settings.redis_*`;
every failed attempt counts for them, as in LiteLLM's Router (its proxy counts a request's first one in a group only);
deployments that are left alone because our account was refused answer with that (502), where LiteLLM's 429 hides it;
without any timeout an attempt ends after `Timeouts`' 600 s, not 6,000; nothing is waited after the last retry; a
wildcard's model that the catalog does not know is unknown at once; and `default_fallbacks` do not replace an answer
that upstream ended with `content_filter`.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from neev_provider.cooldown import Cooldowns, Standing
from neev_provider.routed import NotUnderstoodError, routed_deployment
from neev_provider.routing_plan import Attempt, Group, HandOver, Plan, Routes, Step, lookup
from neev_provider.routing_settings import ANY_GROUP, RoutingSettings, litellm_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from neev_provider.catalog import Catalog, Model
    from neev_provider.config import ConfiguredDeployment, ProxyConfig
    from neev_provider.routed import RoutedDeployment

__all__ = ["Attempt", "Group", "HandOver", "Plan", "PublicModel", "Router", "Step"]

_MAX_WILDCARD_NAMES: Final = 1024  # kept; clients may invent any number
_MAX_NAME_LENGTH: Final = 256  # of a name that is held against wildcards, which takes longer the longer it is
_OWN_PREFIX: Final = "neev/"


@dataclass(frozen=True, slots=True)
class PublicModel:
    """A name that clients may ask for.

    Attributes:
        name: as they write it.
        model: what serves it, or None for another provider's.
    """

    name: str
    model: Model | None


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of `model_list` with what outlives a request."""

    configured: ConfiguredDeployment
    label: str
    standing: Standing


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A `model_name` with wildcards."""

    name: str
    expression: re.Pattern[str]
    entries: tuple[_Entry, ...]


class Router:
    """The routing of one configuration, in one process.

    Args:
        config: as checked by `config.load_config`.
        environ: what `os.environ/NAME` is looked up in, and the default host and key.
        catalog: returns the current catalog, for wildcards and listings; the configuration's by default.
        clock: seconds, monotonic.
        rng: chooses among deployments and spreads waits.

    Attributes:
        settings: the configuration's.
        litellm_reason: why no request at all may take the fast path, or None.

    Raises:
        ConfigError: a deployment cannot be called as it is configured.
    """

    def __init__(
        self,
        config: ProxyConfig,
        environ: Mapping[str, str],
        *,
        catalog: Callable[[], Catalog] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.settings: Final = RoutingSettings.read(config.document)
        self.litellm_reason: Final = litellm_reason(config.document)
        self._environ: Final = environ
        self._catalog: Final = catalog or (lambda: config.catalog)
        self._routed: Final[dict[tuple[str, str], RoutedDeployment]] = {}
        self._wildcards: Final[dict[str, Group]] = {}
        self._reachable: Final[WeakKeyDictionary[Group, tuple[RoutedDeployment, ...]]] = WeakKeyDictionary()
        entries = _entries(config.deployments)
        self._patterns: Final = _patterns(entries)
        self._ids: Final = {str(e.configured.info["id"]) for e in entries if e.configured.info.get("id")}
        self._model_strings: Final = {entry.configured.model for entry in entries}
        self._groups: Final[dict[str, Group]] = {}
        self._add_groups(entries)
        rng = rng or random.Random()  # noqa: S311 - chooses deployments, keeps no secrets
        self._routes: Final = Routes(
            self.settings, Cooldowns(self.settings.cooldown, clock), rng, self.resolve
        )

    def resolve(self, model_name: str) -> Group | None:
        """Return what a model name stands for, or None if there is no such model."""
        group = self._groups.get(model_name) or self._wildcards.get(model_name)
        return group or self._unlisted(model_name)

    def plan(self, group: Group, *, may_call: Callable[[str], bool] | None = None) -> Plan:
        """Return a plan for one request.

        Args:
            group: what the client asked for.
            may_call: whether the client's key may call a model name; fallbacks to others are left out.

        Raises:
            ValueError: the group is not `fast`.
        """
        if group.reason is not None:
            raise ValueError(f"'{group.name}' is LiteLLM's to answer: {group.reason}")
        return Plan(self._routes, group, may_call)

    def reachable(self, group: Group) -> tuple[RoutedDeployment, ...]:
        """Return every deployment that a request for the group may end at: its own and its fallbacks'."""
        found = self._reachable.get(group)
        if found is None:
            found = self._reachable[group] = self._collect_reachable(group)
        return found

    def _collect_reachable(self, group: Group) -> tuple[RoutedDeployment, ...]:
        settings = self.settings
        seen: dict[str, Group] = {}
        pending = [group]
        while pending:
            current = pending.pop()
            if current.name in seen:
                continue
            seen[current.name] = current
            for chains in (settings.fallbacks, settings.context_fallbacks):
                for name in (current.name, group.name):
                    chain = lookup(chains, (name,))
                    targets = () if chain is None else chain.targets
                    pending += [found for found in map(self.resolve, targets) if found is not None]
        return tuple({deployment: None for each in seen.values() for deployment in each.deployments})

    def why_litellm(self, group: Group, litellm_only: Collection[str] = ()) -> str | None:
        """Return why LiteLLM has to answer a request, or None.

        Args:
            group: what it asks for.
            litellm_only: those of its fields that only LiteLLM acts on (`contract.LITELLM_ONLY_FIELDS`).
        """
        if group.reason is None and litellm_only:
            return f"the request holds {min(litellm_only)}"
        return group.reason

    def public_names(self) -> frozenset[str]:
        """Return every name that clients may ask for, hidden aliases too; what only LiteLLM can find is left out."""
        return frozenset([*self._groups, *self._names()])

    def models(self) -> list[PublicModel]:
        """Return what GET /v1/models lists: every name once; hidden aliases are left out."""
        names: dict[str, None] = dict.fromkeys(self._names())
        return [PublicModel(name, self._listed(name)) for name in names]

    def _names(self) -> Iterator[str]:
        aliases = self.settings.aliases
        for name in self._groups:
            if name not in aliases or not aliases[name].hidden:
                yield name
        for pattern in self._patterns:
            for entry in pattern.entries:
                for model in self._catalog():
                    public = _public_name(pattern.name, entry.configured.model, model.id)
                    if public is not None and self.resolve(public) is not None:
                        yield public

    def _listed(self, name: str) -> Model | None:
        group = self.resolve(name)
        if group is None or not group.deployments:
            return None
        model = group.deployments[0].model
        now = self._catalog().get(model.id)
        # Owner and time are upstream's to say, and may have come in since.
        return model if now is None else replace(model, owned_by=now.owned_by, created=now.created)

    def _add_groups(self, entries: Sequence[_Entry]) -> None:
        by_name: dict[str, list[tuple[_Entry, str]]] = {}
        for entry in entries:
            if "*" not in entry.configured.model_name:
                by_name.setdefault(entry.configured.model_name, []).append((entry, entry.configured.model))
        for name, served in by_name.items():
            self._groups[name] = self._group(name, served)
        # An alias goes before a model of the same name, and its fallbacks are those of its own name.
        for name, alias in self.settings.aliases.items():
            if alias.target in by_name:
                self._groups[name] = self._group(name, by_name[alias.target])
            elif (group := self._from_patterns(alias.target, as_name=name)) is not None:
                self._groups[name] = group

    def _group(self, name: str, served: Sequence[tuple[_Entry, str]]) -> Group:
        reason: str | None = self.litellm_reason or self._group_reason(name)
        if reason is not None:
            return Group(name, reason=reason)
        try:
            return Group(name, tuple(self._deployment(entry, model) for entry, model in served))
        except NotUnderstoodError as error:
            return Group(name, reason=error.reason)

    def _group_reason(self, name: str) -> str | None:
        settings = self.settings
        if settings.pre_call_checks:
            return "router_settings.enable_pre_call_checks has LiteLLM count the prompt's tokens"
        if lookup(settings.content_fallbacks, (name,)) is not None:
            return "content_policy_fallbacks have LiteLLM read the answer"
        for chains in (settings.fallbacks, settings.context_fallbacks):
            chain = lookup(chains, (name,))
            if chain is not None and chain.rewrites:
                return "its fallbacks change more of a request than the model"
        return None

    def _deployment(self, entry: _Entry, model: str) -> RoutedDeployment:
        key = (entry.label, model)
        routed = self._routed.get(key)
        if routed is None:
            routed = self._routed[key] = routed_deployment(
                entry.configured,
                entry.label,
                model,
                self._catalog(),
                self.settings,
                self._environ,
                entry.standing,
            )
        return routed

    def _unlisted(self, name: str) -> Group | None:
        """Resolve what is not a `model_name`: a wildcard's, or one of the other ways to name things in LiteLLM."""
        if name in self._ids:
            return Group(name, reason="it names a deployment by its id")
        group = self._from_patterns(name)
        if group is not None:
            if len(self._wildcards) < _MAX_WILDCARD_NAMES:
                self._wildcards[name] = group
            return group
        if "*" in name:
            return None
        if name in self._model_strings:
            return Group(name, reason="it names a deployment by its model, not by its model_name")
        if ANY_GROUP in self.settings.fallbacks:
            return Group(name, reason="unknown models go to the default fallback")
        if "/" not in name and any(_is_foreign(pattern) for pattern in self._patterns):
            return Group(name, reason="LiteLLM may find a provider for it")
        return None

    def _from_patterns(self, name: str, as_name: str | None = None) -> Group | None:
        if "*" in name or len(name) > _MAX_NAME_LENGTH:
            return None
        for pattern in self._patterns:
            match = pattern.expression.match(name)
            if match is None:
                continue
            served = [(entry, _filled_in(entry.configured.model, match)) for entry in pattern.entries]
            known = [model.removeprefix(_OWN_PREFIX) in self._catalog() for _, model in served]
            own = [model.startswith(_OWN_PREFIX) for _, model in served]
            if all(own) and not any(known):
                return None
            return self._group(as_name or name, served)
        return None


def _entries(deployments: Sequence[ConfiguredDeployment]) -> list[_Entry]:
    sizes = Counter(deployment.model_name for deployment in deployments)
    seen: Counter[str] = Counter()
    entries = []
    for deployment in deployments:
        name = deployment.model_name
        seen[name] += 1
        own_id = deployment.info.get("id")
        numbered = name if sizes[name] == 1 else f"{name}#{seen[name]}"
        own_seconds = deployment.info.get("cooldown_time")
        standing = Standing(
            alone=sizes[name] == 1,
            exempt="*" in name,
            seconds=deployment.params.get("cooldown_time") if own_seconds is None else own_seconds,
        )
        entries.append(_Entry(deployment, str(own_id) if own_id else numbered, standing))
    return entries


def _patterns(entries: Sequence[_Entry]) -> tuple[_Pattern, ...]:
    """Return the wildcard names in the order in which LiteLLM tries them: the longest expression first."""
    by_name: dict[str, list[_Entry]] = {}
    for entry in entries:
        if "*" in entry.configured.model_name:
            by_name.setdefault(entry.configured.model_name, []).append(entry)
    patterns = [
        # Not anchored at its end, as LiteLLM's is not.
        _Pattern(name, re.compile(re.escape(name).replace(r"\*", "(.*)")), tuple(group))
        for name, group in by_name.items()
    ]
    return tuple(sorted(patterns, key=_specificity, reverse=True))


def _specificity(pattern: _Pattern) -> tuple[int, int]:
    text = pattern.expression.pattern
    return len(text), sum(text.count(character) for character in "*+?\\^$|()")


def _filled_in(model: str, match: re.Match[str]) -> str:
    """Return a deployment's model with the wildcards of its name filled in."""
    segments = match.groups()
    if "*" not in model:
        return model
    if len(segments) > model.count("*"):
        return match.string
    for segment in segments:
        model = model.replace("*", segment, 1)
    return model


def _public_name(pattern: str, model: str, model_id: str) -> str | None:
    """Return the name by which a wildcard serves a model, or None if it does not, or by any name."""
    if pattern.count("*") != 1 or model.count("*") != 1:
        return None
    before, _, after = model.partition("*")
    full = _OWN_PREFIX + model_id
    if len(full) < len(before) + len(after) or not (full.startswith(before) and full.endswith(after)):
        return None
    return pattern.replace("*", full[len(before) : len(full) - len(after)])


def _is_foreign(pattern: _Pattern) -> bool:
    return "/" in pattern.name and not pattern.name.startswith(_OWN_PREFIX)

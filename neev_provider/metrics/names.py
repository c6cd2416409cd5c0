"""Which model names a label may show: those of the configuration. Clients may invent any number of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from neev_provider.metrics.families import NONE, OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["PublicNames"]


class PublicNames:
    """The public model names, read anew when what they depend on has changed.

    Args:
        read: returns them.
        version: returns another object when they may have changed.
    """

    def __init__(self, read: Callable[[], Collection[str]], version: Callable[[], object]) -> None:
        self._read: Final = read
        self._version: Final = version
        self._names: Collection[str] = ()
        self._read_for: object = None

    def label(self, name: str | None) -> str:
        """Return what the label says of a name that a client asked for; None: for none."""
        if name is None:
            return NONE
        version = self._version()
        if version is not self._read_for:
            self._names, self._read_for = frozenset(self._read()), version
        return name if name in self._names else OTHER

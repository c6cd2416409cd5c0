"""The engines by name. Called by `command.py` and `testing.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from neev_provider.emulator.echo import EchoEngine

if TYPE_CHECKING:
    from neev_provider.emulator.engine import Engine

__all__ = ["ENGINES", "make_engine"]

ENGINES: Final = ("echo", "local")


def make_engine(name: str) -> Engine:
    """Return a new engine, not yet started.

    Raises:
        ValueError: there is none of this name.
    """
    if name == "echo":
        return EchoEngine()
    if name == "local":
        from neev_provider.emulator.local import LocalEngine  # noqa: PLC0415 - only when wanted

        return LocalEngine()
    raise ValueError(f"unknown engine '{name}'; known are {', '.join(ENGINES)}")

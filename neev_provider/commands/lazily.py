"""A command group whose parts are imported when they are asked for, so that the others start at once.

Called by `cli.py`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar

import typer.core
import typer.main
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LazyGroup"]


class LazyGroup(typer.core.TyperGroup):
    """A group with further groups that stand in modules of their own.

    Attributes:
        modules: name of a command to the module that holds it as `app`.
    """

    modules: ClassVar[Mapping[str, str]] = {}

    @override
    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *self.modules]

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        module = self.modules.get(cmd_name)
        if module is None:
            return super().get_command(ctx, cmd_name)
        command = typer.main.get_command(importlib.import_module(module).app)
        command.name = cmd_name
        return command

"""`neev-gateway doctor`: looks at every part of a deployment, and says how to mend it. Called by `cli.py`.

What is looked at stands in `doctor_checks.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape

from neev_provider.commands import views
from neev_provider.commands.doctor_checks import Finding, Subject, check_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from neev_provider.commands.opening import StoreChoice

__all__ = ["examine"]

_MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "error": "[red]✗[/]"}


def examine(choice: StoreChoice, upstream: str | None, environ: Mapping[str, str], *, as_json: bool) -> None:
    """Look at everything and print what was found.

    Raises:
        Exit: code 1 if something is wrong.
    """
    findings = asyncio.run(check_all(Subject(choice, upstream, environ)))
    if as_json:
        typer.echo(views.as_json([asdict(finding) for finding in findings]))
    else:
        _show(findings)
    if any(finding.status == "error" for finding in findings):
        raise typer.Exit(1)


def _show(findings: Sequence[Finding]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for finding in findings:
        console.print(f"{_MARKS[finding.status]} {finding.part:<14} {escape(finding.what)}")
        if finding.remedy:
            console.print(f"  {'':<14} → {escape(finding.remedy)}")
    errors = sum(finding.status == "error" for finding in findings)
    warnings = sum(finding.status == "warning" for finding in findings)
    console.print("\nAll is well." if not errors + warnings else f"\nErrors: {errors}, warnings: {warnings}.")

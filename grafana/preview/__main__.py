"""`python -m grafana.preview`: run a gateway with traffic under a Prometheus, and draw the dashboards from it."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from grafana.generate import HERE
from grafana.live.product import Product, hand_out_keys, product
from grafana.live.traffic import everything, mixed
from grafana.live.watch import Prometheus, prometheus
from grafana.preview.collect import Span, collect
from grafana.preview.render import picture

IMAGES: Final = HERE.parent / "docs" / "images"
BOARDS: Final = ("overview", "spend", "models", "internals")
SCRAPE_SECONDS: Final = 2


def main(
    seconds: Annotated[
        float, typer.Option(min=20, max=3600, help="Of traffic that the pictures show.")
    ] = 420,
    rate: Annotated[float, typer.Option(min=0.1, max=100, help="Requests per second.")] = 14,
    output: Annotated[Path, typer.Option(help="Folder of the pictures.")] = IMAGES,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder to keep what was drawn in, or to draw again from if it is there."),
    ] = None,
) -> None:
    """Draw the dashboards."""
    output.mkdir(parents=True, exist_ok=True)
    for name, board in _boards(seconds, rate, data).items():
        file = output / f"dashboard-{name}.png"
        picture(board, file.resolve())
        typer.echo(f"drawn: {file}")


def _boards(seconds: float, rate: float, data: Path | None) -> dict[str, dict[str, Any]]:
    """Return the dashboards with their data, fresh or as kept."""
    if data is not None and data.exists():
        return {name: json.loads((data / f"{name}.json").read_text()) for name in BOARDS}
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        typer.echo(f"A gateway, a Prometheus and {seconds:.0f} s of traffic ...")
        served = stack.enter_context(product(folder))
        watching = stack.enter_context(prometheus(folder, scraped=served.metrics, every=f"{SCRAPE_SECONDS}s"))
        begun = time.time()
        asyncio.run(_traffic(served, seconds, rate))
        boards = _collected(watching, Span(begun, time.time(), SCRAPE_SECONDS))
    if data is not None:
        data.mkdir(parents=True)
        for name, board in boards.items():
            (data / f"{name}.json").write_text(json.dumps(board))
    return boards


async def _traffic(served: Product, seconds: float, rate: float) -> None:
    tokens = await hand_out_keys(served)
    await everything(served.url, tokens)
    await mixed(served.url, tokens, seconds=seconds * 0.4, rate=rate)
    served.kill_litellm()
    await mixed(served.url, tokens, seconds=seconds * 0.6, rate=rate, trouble=(0.35, 0.6))


def _collected(watching: Prometheus, span: Span) -> dict[str, dict[str, Any]]:
    boards = {name: json.loads((HERE / "dashboards" / f"{name}.json").read_text()) for name in BOARDS}
    return {name: collect(board, watching, span) for name, board in boards.items()}


if __name__ == "__main__":
    typer.run(main)

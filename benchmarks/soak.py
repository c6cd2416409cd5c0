"""Half an hour of mixed load on the running product, and what must be left of it: nothing but exact books.

Starts `neev-gateway serve` with two workers, LiteLLM, an embedded store and the emulator; loads it with chats,
streams, speech, LiteLLM's routes, upstream's faults, clients that leave and bad requests; looks at its processes
meanwhile. At the end memory must be flat, no lease, stream, request or socket left, and the ledger equal to what the
emulator counted.
Run: `python -m benchmarks.soak [--minutes 30] [--rate 40] [--seed 1]`; exit code 1 says what is not as it should be.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import aiohttp
import typer
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from neev_provider.admission.keys import Keys
from neev_provider.admission.spend import read_spend
from neev_provider.catalog import Catalog
from neev_provider.store import Store
from neev_provider.store.node import Timing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from neev_provider.admission.spend import DaySpend
    from tests.proxy.serving import Served

EXACT, LEFT, THROUGH = "gpt-oss-120b", "glm-4-7", "gpt-oss-20b"
"""Models: of calls that come to their end, of those that do not, of what LiteLLM answers."""
CHAT, MESSAGES, SPEECH = "/v1/chat/completions", "/v1/messages", "/v1/audio/speech"
CONFIG: Final = Path(__file__).resolve().parent.parent / "proxy_config.yaml"
TEAMS, KEYS = 4, 20
SAMPLE_SECONDS: Final = 5.0
GROWTH: Final = 1.06  # of memory from the second fifth of the run to the last
SOME_BYTES: Final = 4 * 2**20  # that a small process may grow all the same
SOME_FILES: Final = 12  # idle connections come and go
SETTLED_SECONDS: Final = 20.0


@dataclass(slots=True)
class Run:
    """One run.

    Attributes:
        answers: how often which call was answered with which status.
        samples: by process and figure, as they were read.
        wrong: what is not as it should be.
    """

    served: Served
    metrics: str
    tokens: list[str]
    dice: random.Random
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    samples: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def expect(self, holds: object, said: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.wrong.append(said)


def chat(model: str, echo: str, *, fault: str = "", stream: bool = False) -> dict[str, Any]:
    """Return a request that the emulator answers as it is told."""
    lines = [f"x-neev-fault: {fault}"] * bool(fault) + [f"x-neev-echo: {echo}"]
    message = {"role": "user", "content": "\n".join([*lines, "soak"])}
    return {"model": model, "messages": [message], "max_tokens": 400, "stream": stream}


async def whole(run: Run, http: aiohttp.ClientSession) -> str:
    """Ask and read the whole answer."""
    echo = f"tokens={run.dice.randrange(1, 200)},prompt-tokens={run.dice.randrange(1, 3000)}"
    return await ask(run, http, CHAT, chat(EXACT, echo))


async def stream(run: Run, http: aiohttp.ClientSession) -> str:
    """Read a stream to its end."""
    echo = f"tokens={run.dice.randrange(1, 60)},prompt-tokens=20,rate={run.dice.choice((20, 50, 100))}"
    return await ask(run, http, CHAT, chat(EXACT, echo, stream=True))


async def tried_again(run: Run, http: aiohttp.ClientSession) -> str:
    """Meet a fault of upstream that a second attempt overcomes."""
    fault = f"status={run.dice.choice((500, 502, 503, 429))},times=1,id={run.dice.getrandbits(60)}"
    return await ask(run, http, CHAT, chat(EXACT, "tokens=10,prompt-tokens=5", fault=fault))


async def broken(run: Run, http: aiohttp.ClientSession) -> str:
    """Meet a stream that upstream breaks off."""
    body = chat(LEFT, "tokens=20,prompt-tokens=5,rate=100", fault="cut-after=5", stream=True)
    return await ask(run, http, CHAT, body)


async def left(run: Run, http: aiohttp.ClientSession) -> str:
    """Leave a stream, before or after it began."""
    body = chat(LEFT, "tokens=100,prompt-tokens=5,rate=30", stream=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(run.dice.random() * 2):
            return await ask(run, http, CHAT, body)
    return "left"


async def speech(run: Run, http: aiohttp.ClientSession) -> str:
    """Have a sentence spoken."""
    return await ask(
        run, http, SPEECH, {"model": "tts-1", "voice": "alloy", "input": "Nothing is left behind."}
    )


async def messages(run: Run, http: aiohttp.ClientSession) -> str:
    """Ask as Anthropic's clients do, through LiteLLM."""
    body = chat(THROUGH, "tokens=12,prompt-tokens=7", stream=run.dice.choice((True, False)))
    return await ask(run, http, MESSAGES, body)


async def bad(run: Run, http: aiohttp.ClientSession) -> str:
    """Ask for what cannot be."""
    body = run.dice.choice(({"model": "nobody", "messages": []}, {}, {"model": EXACT, "messages": "none"}))
    return await ask(run, http, CHAT, body)


SCENARIOS: Final[
    tuple[tuple[Callable[[Run, aiohttp.ClientSession], Awaitable[str]], int, frozenset[str]], ...]
] = (
    (whole, 40, frozenset({"200"})),
    (stream, 25, frozenset({"200"})),
    (tried_again, 6, frozenset({"200"})),
    (broken, 5, frozenset({"200"})),
    (left, 10, frozenset({"200", "left"})),
    (speech, 4, frozenset({"200"})),
    (messages, 4, frozenset({"200"})),
    (bad, 6, frozenset({"400", "404"})),
)


async def ask(run: Run, http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> str:
    """Return the status of an answer that was read to its end."""
    headers = {"authorization": f"Bearer {run.dice.choice(run.tokens)}"}
    async with http.post(path, json=body, headers=headers) as response:
        async for _ in response.content.iter_any():
            pass
        return str(response.status)


async def load(run: Run, minutes: float, rate: float) -> None:
    """Begin calls at random times, `rate` a second on average, and wait for the last."""
    ends = time.monotonic() + minutes * 60
    weights = [weight for _, weight, _ in SCENARIOS]
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=10)
    async with aiohttp.ClientSession(run.served.root_url, timeout=timeout, connector=connector) as http:

        async def one() -> None:
            scenario, _, _ = run.dice.choices(SCENARIOS, weights)[0]
            try:
                said = await scenario(run, http)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                said = type(error).__name__
            run.answers[scenario.__name__, said] += 1

        async with asyncio.TaskGroup() as calls:
            while time.monotonic() < ends:
                calls.create_task(one())
                await asyncio.sleep(run.dice.expovariate(rate))


async def scrape(run: Run) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return the metrics as they are now."""
    async with aiohttp.ClientSession() as http, http.get(run.metrics) as response:
        text = await response.text()
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


async def watch(run: Run) -> None:
    """Note memory and open files of every process until cancelled."""
    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        now = await scrape(run)
        for name, figure in (
            ("neev_process_resident_memory_bytes", "memory"),
            ("neev_process_open_fds", "files"),
        ):
            for labels, value in now.get(name, {}).items():
                run.samples.setdefault((dict(labels)["process"], figure), []).append(value)


async def hold(run: Run, minutes: float, rate: float) -> None:
    """Load the product and look at it, then look at what is left."""
    first = await scrape(run)
    watching = asyncio.create_task(watch(run))
    await load(run, minutes, rate)
    watching.cancel()
    for scenario, _, wanted in SCENARIOS:
        got = {said: n for (name, said), n in run.answers.items() if name == scenario.__name__}
        run.expect(set(got) <= wanted, f"{scenario.__name__} was answered {got}, not {sorted(wanted)}")
    check_memory(run)
    await check_what_is_left(run, first)


def fifths(values: list[float]) -> list[list[float]]:
    """Return the values in five parts, none of them empty."""
    return [
        values[n * len(values) // 5 : max((n + 1) * len(values) // 5, n * len(values) // 5 + 1)]
        for n in range(5)
    ]


def check_memory(run: Run) -> None:
    """Compare the second fifth of the run with the last."""
    for (process, figure), values in run.samples.items():
        _, second, _, _, last = fifths(values)
        before, after = statistics.median(second), statistics.median(last)
        if figure == "memory" and process != "emulator":
            grown = after > before * GROWTH and after - before > SOME_BYTES
            run.expect(
                not grown,
                f"the memory of {process} rose from {before / 2**20:.1f} to {after / 2**20:.1f} MiB",
            )


async def check_what_is_left(run: Run, first: dict[str, dict[tuple[tuple[str, str], ...], float]]) -> None:
    """Wait until all is settled, then compare the books with upstream's."""
    url = (run.served.state / "run" / "store").read_text().strip()
    async with (
        Store.from_url(url, timing=Timing(call=10.0)) as store,
        aiohttp.ClientSession(run.served.emulator_url) as emulator,
    ):
        keys = Keys(store)
        await asyncio.sleep(
            SETTLED_SECONDS
        )  # idle connections are closed, what LiteLLM tells late has been told
        held = [key.id for key in await keys.list_keys() if key.in_flight or key.held_nanos]
        run.expect(not held, f"leases are left of {held}")
        last = await scrape(run)
        for name in ("neev_in_flight_requests", "neev_streams_open", "neev_pending_settles"):
            left_over = sum(last.get(name, {}).values())
            run.expect(left_over == 0, f"{name} is {left_over:g} at the end")
        for name in ("neev_expired_leases_total", "neev_logged_settles_total", "neev_process_restarts_total"):
            run.expect(sum(last.get(name, {}).values()) == 0, f"{name} is not 0")
        for labels, files in last["neev_process_open_fds"].items():
            before = first["neev_process_open_fds"].get(labels, files)
            process = dict(labels)["process"]
            run.expect(files <= before + SOME_FILES, f"{process} has {files:g} files open, {before:g} before")
        async with emulator.get("/_emulator/stats") as response:
            counted = await response.json()
        run.expect(counted["streams"]["open"] == 0, "the emulator still streams")
        today = datetime.now(UTC)
        rows = await read_spend(store, today - timedelta(days=2), today)
        compare(run, rows, counted["by_model"])
        spent = sum(key.spend_nanos for key in await keys.list_keys())
        booked = sum(row.cost_nanos for row in rows)
        run.expect(spent == booked, f"keys spent {spent}, days say {booked} nano-USD")


def compare(run: Run, rows: list[DaySpend], counted: dict[str, dict[str, int]]) -> None:
    """Compare what was charged for each model with what the emulator produced."""
    catalog = Catalog.load()
    table = _table("model", "requests", "tokens in", "tokens out", "nano-USD charged", "upstream's count")
    for model in (EXACT, THROUGH, LEFT):
        price = catalog.get(model).price
        assert price is not None
        mine = [row for row in rows if row.model == model]
        theirs = counted[model]
        charged = sum(row.cost_nanos for row in mine)
        due = (
            theirs["prompt_tokens"] * price.prompt_nanos
            + theirs["completion_tokens"] * price.completion_nanos
        )
        told = [
            sum(getattr(row, name) for row in mine)
            for name in ("requests", "prompt_tokens", "completion_tokens")
        ]
        table.add_row(model, *(f"{figure:,}" for figure in (*told, charged, due)))
        if model != LEFT:
            run.expect(charged == due, f"{model}: {charged} nano-USD charged, {due} due")
            run.expect(told[0] == theirs["requests"], f"{model}: {told[0]} requests of {theirs['requests']}")
            run.expect(not any(row.estimated for row in mine), f"{model}: something was estimated")
    Console().print(table)


def _table(first: str, *others: str) -> Table:
    """Return a table that has room in a terminal of 80 columns."""
    table = Table(first, box=None, pad_edge=False)
    for name in others:
        table.add_column(name, justify="right" if len(others) > 1 else "left")
    return table


def report(run: Run, minutes: float) -> None:
    """Print what was done and seen."""
    console = Console()
    table = _table("call", "answers")
    for scenario, _, _ in SCENARIOS:
        got = {said: n for (name, said), n in run.answers.items() if name == scenario.__name__}
        table.add_row(scenario.__name__, ", ".join(f"{n:,} x {said}" for said, n in sorted(got.items())))
    console.print(table)
    processes = _table(
        "process", "MiB at first", *(f"{n}/5" for n in range(1, 6)), "at most", "files at most"
    )
    for process in sorted({process for process, _ in run.samples}):
        memory = [value / 2**20 for value in run.samples[process, "memory"]]
        files = run.samples.get((process, "files"), [0.0])
        course = (memory[0], *map(statistics.median, fifths(memory)), max(memory))
        processes.add_row(process, *(f"{value:.1f}" for value in course), f"{max(files):.0f}")
    console.print(processes)
    if run.wrong:
        console.print(*(f"[red]wrong:[/red] {said}" for said in run.wrong), sep="\n")
    else:
        console.print(
            f"[green]{minutes:g} minutes, {run.answers.total():,} calls: nothing is left, the books agree.[/green]"
        )


async def prepare(served: Served) -> list[str]:
    """Make keys of teams, with budgets and limits that cover the run."""
    url = (served.state / "run" / "store").read_text().strip()
    async with Store.from_url(url) as store:
        keys = Keys(store)
        tokens: list[str] = []
        for number in range(KEYS):
            team = f"team-{number % TEAMS}"
            if number < TEAMS:
                await keys.create_team({"max_budget": 10_000, "rpm_limit": 10**6}, team_id=team, by="soak")
            limits = {
                "max_budget": 1000,
                "rpm_limit": 10**6,
                "tpm_limit": 10**9,
                "max_parallel_requests": 1000,
            }
            tokens.append((await keys.create_key(limits, team=team, by="soak")).token)
        return tokens


def config_in(folder: Path) -> Path:
    """Write the repository's configuration with speech priced and no cooldowns: the faults are made on purpose."""
    text = CONFIG.read_text()
    for found, put in (
        (
            "  models: []\n",
            "  models: [{id: tts-1, modality: speech, voices: any, price: {characters: 15}}]\n",
        ),
        ("  # fallbacks:", "  disable_cooldowns: true\n  # fallbacks:"),
    ):
        assert found in text
        text = text.replace(found, put, 1)
    file = folder / "proxy_config.yaml"
    file.write_text(text)
    return file


def main(
    minutes: Annotated[float, typer.Option(min=0.2, max=1440, help="How long.")] = 30,
    rate: Annotated[float, typer.Option(min=1, max=500, help="Calls a second.")] = 40,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write all samples.")] = None,
) -> None:
    """Hold mixed load for long, and look at what is left of it."""
    from tests.proxy.serving import free_port, serving  # noqa: PLC0415 - from the repository only

    with tempfile.TemporaryDirectory(prefix="soak") as name:
        folder = Path(name)
        port = free_port()
        words = ("--engine", "echo", "--workers", "2", "--metrics-port", str(port))
        with serving(folder / "served", *words, config=config_in(folder)) as served:
            tokens = asyncio.run(prepare(served))
            run = Run(served, f"http://127.0.0.1:{port}/metrics", tokens, random.Random(seed))
            asyncio.run(hold(run, minutes, rate))
    report(run, minutes)
    if json_file is not None:
        samples = {f"{process} {figure}": values for (process, figure), values in run.samples.items()}
        json_file.write_text(json.dumps({"minutes": minutes, "rate": rate, "seed": seed, "samples": samples}))
    if run.wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

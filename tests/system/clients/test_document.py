"""docs/clients.md: its table is the matrix, its snippets run."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.system.clients.conftest import environment
from tests.system.clients.matrix import CLIENTS, NODE_MODULES, ROOT, Client, table

DOCUMENT = (ROOT / "docs" / "clients.md").read_text()


def snippet(client: Client) -> tuple[str, str]:
    """Return the language and the code of a client's section."""
    section = re.search(rf"^## {client.name}\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)[1]
    return re.search(r"```(\w+)\n(.*?)```", section, re.DOTALL).groups()


def test_the_table_is_the_matrix():
    shown = re.search(r"<!-- table: .*? -->\n(.*?)<!-- end of table -->", DOCUMENT, re.DOTALL)[1]
    assert shown == table() + "\n"


@pytest.mark.system
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_snippet_says_hello(client: Client, gateway, tmp_path):
    language, code = snippet(client)
    code = code.replace("http://127.0.0.1:4000", gateway.root_url).replace("sk-neev-...", gateway.key)
    interpreter = ROOT / client.interpreter
    file = tmp_path / f"snippet.{'mjs' if language == 'js' else language}"
    file.write_text(code)
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    program = "sh" if language == "sh" else interpreter
    path = f"{interpreter.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [program, file],
        env={**environment(gateway), "PATH": path, "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert "Say hello." in done.stdout

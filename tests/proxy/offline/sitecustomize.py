"""Cuts a Python process and its children off the network: anything but loopback is refused and written down.

Put on PYTHONPATH by the tests; NEEV_TEST_CONNECTIONS names the file to write to.
"""

import os
import sys

_LOG = os.environ.get("NEEV_TEST_CONNECTIONS", "")
_LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


def _refuse(event: str, args: tuple) -> None:
    if event == "socket.connect" and isinstance(args[1], tuple):
        host = str(args[1][0])
    elif event == "socket.getaddrinfo" and args[0] is not None:
        host = args[0].decode() if isinstance(args[0], bytes) else str(args[0])
    else:
        return
    if host and not host.startswith(_LOCAL):
        with open(_LOG, "a", encoding="utf-8") as file:
            file.write(f"{event} {host}\n")
        raise OSError(101, f"the test refuses {host}")


if _LOG:
    sys.addaudithook(_refuse)

"""In a gateway worker: counts the objects that only the garbage collector could free, whenever it is asked to.

Asked by a file `count` in the directory that CIRCLES names; answered there by a file `counted`.
"""

import gc
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path


def answer(folder: Path) -> None:
    while True:
        time.sleep(0.05)
        if not (folder / "count").exists():
            continue
        (folder / "count").unlink()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        found = Counter(type(each).__qualname__ for each in gc.garbage)
        gc.garbage.clear()
        (folder / "part").write_text(", ".join(f"{count} {name}" for name, count in found.most_common()))
        (folder / "part").rename(folder / "counted")


if "CIRCLES" in os.environ and any("gateway.worker" in word for word in sys.orig_argv):
    gc.disable()
    threading.Thread(target=answer, args=(Path(os.environ["CIRCLES"]),), daemon=True).start()

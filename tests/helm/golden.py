"""The golden render of the defaults; `python -m tests.helm.golden` writes it anew.

What is generated, and the configuration, which has tests of its own, are left out.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.helm.charts import render_text

GOLDEN = Path(__file__).parent / "golden" / "defaults.yaml"


def golden_text() -> str:
    text = render_text()
    text = re.sub(r"(?m)^(  (?:LITELLM_MASTER_KEY|password): ).*$", r"\1(generated)", text)
    text = re.sub(r"(checksum/config: )\w+", r"\1(of the configuration)", text)
    return re.sub(r"(?ms)^(  proxy_config\.yaml: \|\n).*?(?=^---)", r"\1    (the configuration)\n", text)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(golden_text())

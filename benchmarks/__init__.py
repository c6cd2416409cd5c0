"""The benchmark: the gateway against LiteLLM on one rig, in one run. Run by `python -m benchmarks`; not installed.

A mock upstream and a load generator share one core, the contestant has the other. What is measured, and how, is
described in `docs/performance.md`.
"""

from __future__ import annotations

__all__: list[str] = []

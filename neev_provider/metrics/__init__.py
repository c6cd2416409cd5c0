"""Metrics of the whole product: counted in each process, added up in one, exposed in Prometheus' formats.

    families.py     the table: names, types, help texts, labels, buckets
    recorder.py     counts in a process
    reporter.py     sends what was counted; messages.py is the form
    receiver.py     takes it, each update once
    sums.py         adds it up, within the caps of labels
    budgets.py      reads budgets from the store
    measured.py     admission and the store, timed
    exposition.py   the sums as Prometheus' own objects
    document.py     the table for people

Only `exposition.py` knows Prometheus' library. Called by the composition roots.
"""

from neev_provider.metrics.families import FAMILIES, MASTER, NONE, OTHER, Family
from neev_provider.metrics.recorder import Recorder
from neev_provider.metrics.reporter import Reporter, reporting

__all__ = ["FAMILIES", "MASTER", "NONE", "OTHER", "Family", "Recorder", "Reporter", "reporting"]

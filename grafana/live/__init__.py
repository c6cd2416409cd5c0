"""A gateway under watch: the real product with traffic, a real Prometheus, a real Alertmanager; all on loopback.

    processes.py  starts a process, waits until it is ready, ends it
    product.py    the gateway with two workers, LiteLLM, the emulator, teams, keys and budgets
    traffic.py    what clients do, faults included
    watch.py      Prometheus and Alertmanager, and their answers
    asked.py      the dashboards' expressions as Grafana would ask them

For tests/system, which tries every expression of every dashboard and rule on it, and for `grafana/preview`, which
draws it.
"""

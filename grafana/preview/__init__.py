"""Pictures of the dashboards, drawn without Grafana from a real Prometheus: `python -m grafana.preview`.

collect.py  asks what each panel asks, and puts it into the form that the page draws
render.py   one page a dashboard, and headless Chromium's picture of it
page/       the page: lays panels out by their grid positions; units, thresholds and legends as the JSON says
"""

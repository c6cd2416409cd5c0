"""The dashboards; each module has a `board()`."""

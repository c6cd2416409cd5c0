"""Checks what is installed and from where: locks, known vulnerabilities, licences, code that runs at start-up.

Responsible for findings about dependencies only; the project's own code is ruff's, mypy's and the tests'.
`make audit` calls it.
"""

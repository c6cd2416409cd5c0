"""What the command line does: each module reads its words, calls the rest, and prints. Mounted by `cli.py`."""

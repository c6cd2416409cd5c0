"""The way to Redis or Valkey: bounded calls over one pipelined connection per node, behind a circuit breaker.

Knows nothing of keys and budgets. Called by admission and by the command line.
"""

from neev_provider.store.address import Address, parse_address
from neev_provider.store.client import Script, Store
from neev_provider.store.health import StoreHealth, check_store

__all__ = ["Address", "Script", "Store", "StoreHealth", "check_store", "parse_address"]

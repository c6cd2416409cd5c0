"""Who may call, how much, and what it cost: keys, limits, budgets. Called by both doors."""

from neev_provider.admission.terms import (
    DEFAULT_OUTPUT_CAP,
    Access,
    Demand,
    FreeGrant,
    Grant,
    Principal,
    Spent,
)

__all__ = ["DEFAULT_OUTPUT_CAP", "Access", "Demand", "FreeGrant", "Grant", "Principal", "Spent"]

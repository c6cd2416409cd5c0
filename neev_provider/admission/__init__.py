"""Who may call, how much, and what it cost: keys, limits, budgets. Called by both doors."""

from neev_provider.admission.terms import Access, Demand, FreeGrant, Grant, Principal, Spent

__all__ = ["Access", "Demand", "FreeGrant", "Grant", "Principal", "Spent"]

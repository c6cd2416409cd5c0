"""NeevAI's Model Routing API for a whole team."""

__version__ = "0.1.0"

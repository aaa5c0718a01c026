"""Procedural scenes with known truth, and questions about them.

Nothing heavy is imported here, so that listing plugins stays fast.
"""

__version__ = "0.1.0"

"""POPE for lossylens."""

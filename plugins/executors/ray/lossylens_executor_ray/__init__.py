"""Runs of lossylens on a Ray cluster."""

"""Executors of the core: worker processes on this machine."""

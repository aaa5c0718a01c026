"""Janus-Pro-1B as a VLM of lossylens."""

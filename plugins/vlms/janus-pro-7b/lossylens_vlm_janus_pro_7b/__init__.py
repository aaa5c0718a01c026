"""Janus-Pro-7B as a VLM of lossylens."""

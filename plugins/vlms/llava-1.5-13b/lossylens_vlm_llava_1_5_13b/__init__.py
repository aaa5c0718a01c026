"""LLaVA-1.5-13B as a VLM of lossylens."""

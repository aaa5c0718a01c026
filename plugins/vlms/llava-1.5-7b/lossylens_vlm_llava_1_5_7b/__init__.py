"""LLaVA-1.5-7B as a VLM of lossylens."""

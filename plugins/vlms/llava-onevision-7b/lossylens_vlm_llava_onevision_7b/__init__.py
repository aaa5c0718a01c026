"""LLaVA-OneVision as a VLM of lossylens."""

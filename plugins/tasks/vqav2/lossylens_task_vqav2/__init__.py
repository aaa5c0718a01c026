"""VQAv2 for lossylens."""

"""MMMU for lossylens."""

"""Few-shot classification for lossylens."""

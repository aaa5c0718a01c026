"""Lossy WebP, a codec plugin of lossylens."""

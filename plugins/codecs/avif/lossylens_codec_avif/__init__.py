"""AVIF, a codec plugin of lossylens."""

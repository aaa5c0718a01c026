"""RDEIC, a codec plugin of lossylens."""

"""DCAE, a codec plugin of lossylens."""

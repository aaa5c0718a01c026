"""ELIC, a codec plugin of lossylens."""

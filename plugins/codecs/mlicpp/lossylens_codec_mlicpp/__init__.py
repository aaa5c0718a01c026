"""MLIC++, a codec plugin of lossylens."""

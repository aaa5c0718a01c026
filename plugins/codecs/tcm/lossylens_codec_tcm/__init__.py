"""TCM, a codec plugin of lossylens."""

"""JPEG, a codec plugin of lossylens."""

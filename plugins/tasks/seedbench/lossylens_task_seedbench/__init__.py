"""SEEDBench for lossylens."""

"""MMBench for lossylens."""

"""OCRBench for lossylens."""

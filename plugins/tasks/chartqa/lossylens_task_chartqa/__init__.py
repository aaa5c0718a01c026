"""ChartQA for lossylens."""

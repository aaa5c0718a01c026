"""GQA for lossylens."""

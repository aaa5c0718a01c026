"""TextVQA for lossylens."""

"""DocVQA and InfoVQA for lossylens."""

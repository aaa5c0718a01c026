"""MME for lossylens."""

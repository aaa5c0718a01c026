"""Video-MME for lossylens."""

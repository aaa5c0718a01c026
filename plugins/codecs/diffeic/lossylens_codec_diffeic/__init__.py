"""DiffEIC, a codec plugin of lossylens."""

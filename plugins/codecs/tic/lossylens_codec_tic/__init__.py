"""TIC, a codec plugin of lossylens."""

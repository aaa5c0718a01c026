"""VVC by VVenC, a codec plugin of lossylens."""

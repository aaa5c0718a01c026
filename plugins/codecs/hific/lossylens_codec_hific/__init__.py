"""HiFiC, a codec plugin of lossylens."""

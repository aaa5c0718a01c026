"""VVC by its reference software VTM, a codec plugin of lossylens."""

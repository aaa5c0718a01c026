"""MS-ILLM, a codec plugin of lossylens."""

"""JPEG XL, a codec plugin of lossylens."""

"""StableCodec, a codec plugin of lossylens."""

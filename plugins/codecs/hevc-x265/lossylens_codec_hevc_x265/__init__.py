"""HEVC by x265, a codec plugin of lossylens."""

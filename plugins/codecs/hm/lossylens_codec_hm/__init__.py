"""HEVC by its reference software HM, a codec plugin of lossylens."""

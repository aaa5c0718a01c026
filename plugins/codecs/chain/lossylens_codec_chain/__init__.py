"""Chains of codecs and scaling, a codec plugin of lossylens."""

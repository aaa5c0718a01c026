"""lossylens: what image compression costs vision-language models."""

__version__ = "0.1.0"

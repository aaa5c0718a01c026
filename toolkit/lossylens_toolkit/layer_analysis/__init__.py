"""What the layers of a vision encoder make of compressed images: ``lossylens analyze layers``."""

"""RefCOCO, RefCOCO+ and RefCOCOg for lossylens."""

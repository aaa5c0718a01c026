"""COCO Caption for lossylens."""

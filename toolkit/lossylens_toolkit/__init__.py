"""For plugin authors: what plugins of one kind share."""

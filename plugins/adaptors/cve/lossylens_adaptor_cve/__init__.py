"""The conditional vision encoder: an adaptor that tunes the vision encoder to compressed images."""

"""Restoration: an adaptor that repairs the picture and leaves the model as it is."""

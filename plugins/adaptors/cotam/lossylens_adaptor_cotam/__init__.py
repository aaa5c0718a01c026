"""CoTAM: an adaptor that hands a codec's latents to the vision encoder."""

"""CoTAM's codecs, which spend bits where a vision-language model looks."""

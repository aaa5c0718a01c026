"""The transform-neck: compressed latents enter the vision encoder, and no picture is decoded."""

"""What the codecs on latent diffusion share; networks, converters and schedule are diffusers'.

=========================  =====================================================
:mod:`.diffusion_options`  options of these codecs, and which files are missing; imports no torch
:mod:`.ldm`                networks in the names and configurations of the official checkpoints
:mod:`.base_weights`       base weights: where they lie, what they predict, the prompt's embedding
:mod:`.vae`                pictures to latents and back
:mod:`.tiles`              large pictures, in VAE and UNet
:mod:`.sampling`           schedule, sampler and the noise of a picture
:mod:`.lora`               low-rank updates, merged into the weights
:mod:`.diffusion_network`  the networks that code a latent
:mod:`.slices`             layers and context model of DiffEIC and RDEIC
:mod:`.control`            their controlled UNet
:mod:`.chain`              all their networks, as an official state dict holds them
:mod:`.diffusion_codec`    the codec contract on top of all these
=========================  =====================================================

:mod:`.small_base` is the recipe of small base weights.
"""

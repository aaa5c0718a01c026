"""What learned codecs share, built on CompressAI's layers, entropy models and range coder.

==========================  ====================================================
:mod:`.neural_options`      options and levels of a learned codec; imports no torch
:mod:`.container`           the bitstream's header; imports no torch
:mod:`.padding`             how a picture is brought to a size that the network takes
:mod:`.checkpoints`         finding, reading and loading of checkpoints
:mod:`.probability_tables`  integer probability tables of the range coder
:mod:`.coding`              latents to strings and back
:mod:`.channelwise_network` what networks have that code latents slice by slice
:mod:`.window_attention`    attention within windows
:mod:`.winograd`            fast convolutions in float64
:mod:`.hyperprior_network`  forward, compress and decompress of a hyperprior network
:mod:`.high_fidelity`       the autoencoder that HiFiC and MS-ILLM share
:mod:`.learned_codec`       the codec contract on top of all these
:mod:`.level_gains`         many rates from one network, by position
:mod:`.variable_rate`       the codec contract for such a network
:mod:`.generative_codec`    what generative codecs add to it
:mod:`.compressai`          what is used of CompressAI
:mod:`.neural_suite`        tests that every learned codec is put to; needs pytest
==========================  ====================================================
"""

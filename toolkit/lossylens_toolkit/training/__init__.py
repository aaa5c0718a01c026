"""Training, on accelerate; what needs torch is imported when training begins.

===========================  ===================================================
:mod:`.training_options`     what a configuration says; imports no torch
:mod:`.training_pictures`    the pictures that are trained on
:mod:`.crops`                crops of them, drawn by number
:mod:`.objective`            rate, distortion and their weighted sum
:mod:`.states`               states on disk, each whole or absent
:mod:`.training_curve`       the record of training and validation
:mod:`.codec_training`       training of a learned codec
:mod:`.klt`                  transforms to begin it with
:mod:`.klt_high_fidelity`    those of HiFiC's autoencoder
:mod:`.gain_training`        training of a codec of variable rate
:mod:`.generative_training`  training of a generative codec
:mod:`.perceptual`           its perceptual loss
:mod:`.discriminators`       its adversarial loss
:mod:`.adaptor`              training of an adaptor
:mod:`.gap`                  all trainings of a gap split, and their run
===========================  ===================================================
"""

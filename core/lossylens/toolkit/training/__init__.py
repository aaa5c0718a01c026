"""Training, on accelerate; what needs torch is imported when training begins.

===================  ===========================================================
:mod:`.options`      what a configuration says; imports no torch
:mod:`.pictures`     the pictures that are trained on
:mod:`.crops`        crops of them, drawn by number
:mod:`.objective`    rate, distortion and their weighted sum
:mod:`.states`       states on disk, each whole or absent
:mod:`.curve`        the record of training and validation
:mod:`.codec`        training of a learned codec
===================  ===========================================================
"""

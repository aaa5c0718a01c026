"""For codecs around external H.26x encoders, such as reference software.

========================  ======================================================
module                    what is in it
========================  ======================================================
:mod:`.program_codec`     base classes: :class:`.program_codec.StillCodec` (one frame of
                          planar samples), :class:`.program_codec.ProgramCodec` (the user's
                          programs)
:mod:`.reference`         HM and VTM, which are called alike
:mod:`.program_options`   options and levels; light, for a plugin's module
:mod:`.software`          what a codec's programs and files are; what is missing
:mod:`.declaring`         what the plugins of HM and VTM declare; light
:mod:`.programs`          finding programs; their versions and hashes
:mod:`.program_running`   one program: time limit, temporary files, what it says,
                          its end with this process
:mod:`.yuv`               RGB to planar files and back, rounding
:mod:`.nal`               what a byte stream says of itself
:mod:`.bitstream_header`  what a bitstream says beside it
:mod:`.program_testing`   stand-ins for the programs, for tests
:mod:`.program_suite`     tests that plugins share
========================  ======================================================
"""

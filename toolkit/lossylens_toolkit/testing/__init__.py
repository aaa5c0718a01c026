"""Golden files of networks and rate-distortion curves, for tests of plugins."""

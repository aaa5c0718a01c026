"""Measures on rate-score curves and scores.

``curve``       rate-score points, checked and interpolated
``bd``          BD-metric, BD-rate, BD-quality, differences over a shared range
``rating``      one rating of many codecs from differences over shared ranges
``operating``   least rate that keeps a share of the uncompressed score
``gap``         performance gap = information gap + generalisation gap
``scaling``     drop against model size
``ranking``     mean ranks and their concordance
``correlation`` correlation of columns, such as fidelity metrics and scores
``bootstrap``   confidence intervals, resampling images

They take plain numbers and know nothing of runs or reports.  NumPy and SciPy
are imported when a measure is used.
"""

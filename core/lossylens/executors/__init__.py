"""Where work is done; each executor runs a function over jobs and yields the results."""

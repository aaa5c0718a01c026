"""What a run keeps, and the folder of bitstreams that runs share."""

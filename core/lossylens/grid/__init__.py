"""What a run is to do: configuration, cells, record."""

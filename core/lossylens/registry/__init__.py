"""Which plugins there are, and what they declare: discovery, loading, building."""

"""Tables and predictions that users hand in."""

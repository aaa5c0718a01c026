"""From what a user types to typed options."""

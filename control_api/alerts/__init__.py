"""What an operator must act on now."""

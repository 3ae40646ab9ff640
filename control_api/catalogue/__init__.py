"""Models: those we support, those registered, and what the hub says of them."""

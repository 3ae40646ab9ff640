"""Which model shall be on which node, what a node is told of it, and how far each has come."""

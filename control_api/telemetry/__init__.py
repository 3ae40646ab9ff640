"""What happened: the history of requests."""

"""``make demo``: from nothing to an answer through the router, with what a user would use and nothing else."""

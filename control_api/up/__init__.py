"""``muster up``: everything on one machine, as processes that are kept running."""

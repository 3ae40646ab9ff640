"""Engines: a child process per model, behind one protocol."""

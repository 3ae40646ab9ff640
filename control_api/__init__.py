"""Muster's control plane: fleet, catalogue, distribution, automation, router."""

__version__ = "0.1.0"

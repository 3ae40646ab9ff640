"""Muster's node service: runs on each GPU host, holds models and answers OpenAI requests."""

__version__ = "0.1.0"

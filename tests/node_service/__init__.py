"""Tests of the node service: the real process, against a hub and a control API over HTTP."""

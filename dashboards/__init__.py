"""The dashboard: a Panel application in a process of its own, which talks to the control plane by HTTP only."""

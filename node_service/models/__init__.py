"""The models of this node: from the manifest's wish to an engine that answers."""

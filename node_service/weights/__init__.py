"""Model files: resolve → lock → fetch → verify → install."""

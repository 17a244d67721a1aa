"""Plugins tell the outside world about an election. `seam` is their interface; each plugin has a folder."""

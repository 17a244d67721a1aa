"""The real code under every interleaving, crash and fault that a seed can think of. See docs/guarantees.md."""

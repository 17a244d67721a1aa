"""Hostile receivers, and what they cost the sender."""

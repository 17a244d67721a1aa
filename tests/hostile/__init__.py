"""Receivers that mean harm, and what it costs a sender to meet them."""

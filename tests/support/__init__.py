"""What tests share, one name for one thing."""

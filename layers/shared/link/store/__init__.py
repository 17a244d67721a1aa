"""What is kept outside the process: one AWS service per module, and the stored form of the lock item."""

"""What tells the outside world about an election: the seam under LinK's names, and a folder for each plugin."""

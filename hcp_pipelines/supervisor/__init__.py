"""What hcp up does: starts, watches and stops every process."""

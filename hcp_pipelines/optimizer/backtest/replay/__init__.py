"""What strategies would have earned on a platform's own recorded history, beside what it did earn."""

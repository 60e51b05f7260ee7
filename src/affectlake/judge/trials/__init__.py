"""What is asked: order, captions, wording and key of each question, and which questions are still open."""

"""What happens later, off the caller's path: embedding, indexing, scoring, counting usage."""

"""What reviewers see in a browser."""

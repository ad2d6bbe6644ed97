"""Looking at hosts and links from outside, without touching the data path."""

"""Real batches while harm is done to them, and attacks on everything around them; judged from outside."""

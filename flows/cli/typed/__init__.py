"""What was typed: arguments that mean more than they say, and what to say to a mistake."""

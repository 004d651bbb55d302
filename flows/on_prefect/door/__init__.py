"""Who is let in to the server of this machine, and what those who are in may ask for."""

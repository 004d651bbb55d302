"""diffusers' schedulers: built from a schedule, shown through the window, their history taken out and put back."""

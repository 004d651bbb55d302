"""What files of weights say of themselves, read from their headers: no weights, no torch."""

"""What an operator sees and sets: logs, metrics, the state of the provider."""

"""Label Studio's side: its files, its regions, its API."""

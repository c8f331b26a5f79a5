"""What tests, benchmarks and soak share: servers, stand-ins and data. Nothing here is a test."""

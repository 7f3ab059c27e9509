"""What a running process says about itself over HTTP: readiness, debugging and metrics. It changes nothing."""

"""What requests really meet: each outcome is one test on a real Envoy that is configured by a real pypilot."""

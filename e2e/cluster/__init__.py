"""pypilot in a real cluster, whichever a kubeconfig names."""

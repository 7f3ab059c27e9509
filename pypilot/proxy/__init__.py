"""What runs beside an Envoy: the step that sends a pod's traffic to it, and its agent. Never in the control plane."""

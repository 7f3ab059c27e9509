"""What Istio's own agent (`pilot-agent`) needs of a control plane, as its public protocol has it."""

"""DNS for the application (BOOT-002): the control plane's names answered here, others by the pod's resolvers."""

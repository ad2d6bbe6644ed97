"""Congestion controls for the kernel, by BPF: their source, and the object that a wheel brings."""

"""Kubernetes distributions: one file each, and what they share."""

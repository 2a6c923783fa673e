"""What touches hosts: connections, the read-only look, the ledger, the steps."""

"""The components for programs in other languages than Python, served by a Pulumi plugin."""

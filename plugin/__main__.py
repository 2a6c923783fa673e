"""The plugin that `pulumi package add` takes: groundplane's components for every language."""

from groundplane.provider.component import main

main()

# shellcheck shell=bash
# confirm: a connection of its own, behind `firewall`: that it is there proves that new ones are let
# in, and what is on trial stays.
# Data: .firewall the digest of what the step `firewall` was given

# What must hold since is a matter of that step.
apply() { FACTS=/dev/null firewall_confirm; }

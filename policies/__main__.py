"""The policy pack: `pulumi preview --policy-pack policies`."""

from pulumi_policy import PolicyPack

from analyzer import policies
from rules import all_rules

if __name__ == "__main__":
    # Serves the engine, and does not return.
    PolicyPack("groundplane", policies(all_rules()))

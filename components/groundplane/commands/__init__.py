"""The commands of `groundplane`, one file each."""

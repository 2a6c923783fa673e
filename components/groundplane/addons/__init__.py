"""What runs on a cluster: each add-on a module of the name by which a user calls it.

An add-on is its arguments, a component by `@addon`, and its entries in the catalogue: see
docs/operations/add-an-add-on.md. What all of them share is not here, but in `groundplane.ground`
and `groundplane.spec.addons`.
"""

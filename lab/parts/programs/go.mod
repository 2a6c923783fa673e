module groundplane.test/lab/programs

go 1.25.0

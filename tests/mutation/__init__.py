"""Do the tests bite? Every small change of the core must turn one of them red."""

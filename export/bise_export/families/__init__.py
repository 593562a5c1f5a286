"""Model families: one module each, holding its quirks and nothing else. `registry.build_spec` finds the right one."""

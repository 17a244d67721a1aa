"""Break it and see a check fail: one catalogue of variants that break a promise or a rule, and one runner for it."""

"""The webhook plugin: one signed POST per delivery, to LinK's format and to Standard Webhooks, sent with guards."""

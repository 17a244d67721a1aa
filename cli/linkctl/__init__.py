"""The command line of link-webhook."""
